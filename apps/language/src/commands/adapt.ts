import { join } from 'node:path';
import { Rng } from '@ashlar/tensor';
import { jsonl, progress } from '@ashlar/train';
import { Command } from 'commander';
import { adapt } from '../adapt.ts';
import { startBackend } from '../backend.ts';
import { BUNDLED_MODEL, loadLanguageModel, sampleText, saveLanguageModel } from '../language-model.ts';
import { METHODS } from '../methods.ts';
import { textTable } from '../report/page.ts';
import { ResultRecorder, saveResult } from '../result.ts';
import { folderName, nonNegative, positiveInteger, splitTexts, wholeNumber } from './options.ts';

interface Options {
  model: string;
  text: string;
  out: string;
  method: string;
  rank: number;
  alpha?: number;
  targets?: string[];
  dropout: number;
  learningRate?: number;
  steps: number;
  batchSize: number;
  sequenceLength?: number;
  heldOut?: number;
  heldOutTokens: number;
  evaluateEvery?: number;
  prompt?: string;
  seed: number;
  resume?: boolean;
}

const methodList = Object.entries(METHODS)
  .map(([name, { description }]) => `  ${name.padEnd(8)} ${description}`)
  .join('\n');

export const adaptCommand: Command = new Command('adapt')
  .description('fine-tune a language model on your own text')
  .option('--model <folder or hub id>', 'the model to adapt', BUNDLED_MODEL)
  .requiredOption(
    '--text <file or folder>',
    "what to learn (.txt, .md), or 'sotu' for the State of the Union addresses",
  )
  .requiredOption('--out <folder>', 'where the adapter goes (for --method full: the model)', folderName)
  .option('--method <name>', 'see below', 'lora')
  .option('--rank <n>', 'rank of the update', positiveInteger, 8)
  .option('--alpha <x>', 'scaling of the update (default: by method)', nonNegative)
  .option('--targets <name...>', "modules to adapt, or 'attention' (default: all linear ones except the head)")
  .option('--dropout <p>', "dropout on the adapter's input", nonNegative, 0)
  .option('--learning-rate <x>', 'peak learning rate (default: by method)', nonNegative)
  .option('--steps <n>', 'training steps', positiveInteger, 200)
  .option('--batch-size <n>', 'sequences per step', positiveInteger, 8)
  .option('--sequence-length <n>', "tokens per sequence (default: the model's context, at most 256)", positiveInteger)
  .option('--held-out <n>', 'how many of the last documents to measure on (default: a tenth)', positiveInteger)
  .option('--held-out-tokens <n>', 'measure on at most about this many tokens', positiveInteger, 32768)
  .option('--evaluate-every <n>', 'steps between measurements (default: a fifth of the steps)', positiveInteger)
  .option('--prompt <text>', 'what the samples begin with (default: the first words of the held-out text)')
  .option('--seed <n>', 'seed of everything random', wholeNumber, 0)
  .option('--resume', 'continue a run that was stopped')
  .addHelpText('after', `\nMethods:\n${methodList}`)
  .action(async (options: Options) => {
    await startBackend();
    const { train, heldOut } = await splitTexts(options.text, options.heldOut);
    const language = await loadLanguageModel(options.model);
    const prompt = options.prompt ?? heldOut[0].text.trim().split(/\s+/, 12).join(' ');
    const sample = (): Promise<string> =>
      sampleText({ ...language, model: language.model.eval() as typeof language.model }, prompt, {
        maxNewTokens: 80,
        temperature: 0.8,
        topP: 0.95,
        rng: new Rng(options.seed).fork('sample'),
      });
    const sampleBefore = await sample();
    const { adapter, events } = adapt(language, {
      ...options,
      targets: targetsOf(options.targets),
      train,
      heldOut,
      checkpoints: join(options.out, 'checkpoints'),
    });
    const recorder = new ResultRecorder(options.method);
    for await (const event of progress(jsonl(events, join(options.out, 'log.jsonl')), { label: options.method })) {
      recorder.add(event);
    }
    if (adapter === undefined) await saveLanguageModel(language, options.out, { dtype: 'F16' });
    else await adapter.save(options.out, { baseModel: options.model });
    const result = recorder.result(await sample());
    await saveResult(options.out, { result, prompt, sampleBefore });
    console.log(`\n${textTable([result])}\n\n${prompt} …\nbefore: ${sampleBefore}\nafter:  ${result.sample}\n`);
    console.log(`Saved to ${options.out}.`);
  });

/** Names, or a word for many of them. */
function targetsOf(targets: string[] | undefined): string | string[] | undefined {
  const [word] = targets ?? [];
  return targets?.length === 1 && ['all-linear', 'attention'].includes(word) ? word : targets;
}
