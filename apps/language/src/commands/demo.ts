import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { makeFolder, writeFileAtomic } from '@ashlar/tensor';
import { Command } from 'commander';
import { BUNDLED_MODEL } from '../language-model.ts';
import { method } from '../methods.ts';
import { reportPage, textTable } from '../report/page.ts';
import { readResult } from '../result.ts';
import { folderName, positiveInteger, wholeNumber } from './options.ts';

/** What the demo runs under the same budget of steps, each with a learning rate that suits a model this small. */
const LEARNING_RATES: Readonly<Record<string, number>> = {
  lora: 1e-2,
  dora: 1e-2,
  pissa: 5e-3,
  glad: 1e-2,
  sara: 1e-2,
  ramt: 1e-3,
  svfit: 1e-1,
  lofit: 5e-2,
  full: 1e-3,
};
const DEMO_METHODS = Object.keys(LEARNING_RATES);
const RANK = 8;
const HELD_OUT_TOKENS = 8192;

export const demoCommand: Command = new Command('demo')
  .description('adapt the bundled model to the State of the Union addresses with several methods, and report')
  .option('--out <folder>', 'where the adapters and the report go', folderName, 'report')
  .option('--methods <name...>', 'which methods, of those that adapt has', DEMO_METHODS)
  .option('--steps <n>', 'training steps of each method', positiveInteger, 60)
  .option('--seed <n>', 'seed of everything random', wholeNumber, 0)
  .action(async ({ out, methods, steps, seed }: { out: string; methods: string[]; steps: number; seed: number }) => {
    for (const name of methods) method(name);
    const folder = resolve(out);
    await makeFolder(folder);
    const shared = [
      '--text',
      'sotu',
      '--held-out',
      '10',
      '--held-out-tokens',
      String(HELD_OUT_TOKENS),
      '--rank',
      String(RANK),
    ];
    for (const [i, name] of methods.entries()) {
      console.log(`\n[${i + 1}/${methods.length}] ${name}`);
      // A process for each, so that memory is measured apart.
      await run([
        'adapt',
        ...shared,
        '--method',
        name,
        '--learning-rate',
        String(rateOf(name)),
        '--steps',
        String(steps),
        '--seed',
        String(seed),
        '--out',
        join(folder, name),
      ]);
    }
    const saved = await Promise.all(methods.map((name) => readResult(join(folder, name))));
    const results = saved.map(({ result }) => result);
    const { prompt, sampleBefore } = saved[0];
    const page = reportPage({
      title: 'A small Llama learns to speak to Congress',
      summary:
        'The bundled model has read Moby-Dick and the King James Bible. Here it learns the State of the Union addresses with each method, ' +
        `for ${steps} steps of 8 sequences of 256 tokens, and is measured on about ${HELD_OUT_TOKENS} tokens of the last ten, which it never learns.`,
      prompt,
      sampleBefore,
      results,
      details: {
        model: `${BUNDLED_MODEL} (its training.json says how it was trained)`,
        adapters: `rank ${RANK} on all linear layers, or what comes closest to it, in the layout of Hugging Face PEFT, in ${methods.join(', ')} beside this page`,
        'peak learning rates': methods.map((name) => `${name} ${rateOf(name)}`).join(', '),
        seed: String(seed),
        node: `${process.version}, ${process.platform} ${process.arch}`,
        'run again': `npx pnpm@12 demo --steps ${steps} --seed ${seed}`,
      },
    });
    const path = join(folder, 'index.html');
    await writeFileAtomic(path, page);
    const samples = [{ name: 'before', sample: sampleBefore }, ...results];
    console.log(`\n${textTable(results)}\n\n${prompt} …`);
    for (const { name, sample } of samples) console.log(`  ${name.padEnd(6)} ${sample.replace(/\s+/g, ' ').trim()}`);
    console.log(`\nThe report, with curves: ${path}`);
  });

const rateOf = (name: string): number => LEARNING_RATES[name] ?? method(name).learningRate;

function run(args: readonly string[]): Promise<void> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [...process.execArgv, process.argv[1], ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    child.on('error', fail);
    child.on('exit', (code, signal) => {
      if (code === 0) done();
      else fail(new Error(`'${args.join(' ')}' ended with ${signal ?? `exit code ${code}`}.`));
    });
  });
}
