import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LENGTH_TASKS, SCRATCHPAD_PARTS, type Scratchpad } from '@ashlar/data';
import { writeFileAtomic } from '@ashlar/tensor';
import { Command } from 'commander';
import { startBackend } from '../backend.ts';
import { ENCODINGS, listOf } from '../encodings.ts';
import { type LengthsRun, type LengthsSummary, lengthGeneralization, summarizeLengths } from '../lengths.ts';
import { lengthsChart } from '../report/figure.ts';
import { nonNegative, positiveInteger } from './options.ts';

interface Options {
  task: string;
  encodings: string[];
  trainLength: number;
  testLength?: number;
  steps: number;
  seeds: number;
  batchSize: number;
  count: number;
  symbols: number;
  scratchpad?: true | string[];
  width: number;
  heads: number;
  layers: number;
  learningRate: number;
  out: string;
}

const taskList = Object.entries(LENGTH_TASKS)
  .map(([name, { description }]) => `  ${name.padEnd(14)} ${description}`)
  .join('\n');

export const lengthsCommand: Command = new Command('lengths')
  .description('train a small decoder with each position encoding on short problems, and measure it on longer ones')
  .option('--task <name>', 'see below', 'repeat')
  .option('--encodings <name...>', 'see below', ['none', 'sinusoidal', 't5', 'alibi', 'rope'])
  .option('--train-length <n>', 'the longest problem in training', positiveInteger, 10)
  .option('--test-length <n>', 'the longest problem in the test (default: twice as long)', positiveInteger)
  .option('--steps <n>', 'training steps', positiveInteger, 800)
  .option('--seeds <n>', 'models of each encoding', positiveInteger, 3)
  .option('--batch-size <n>', 'problems per step', positiveInteger, 64)
  .option('--count <n>', 'problems of each length in the test', positiveInteger, 100)
  .option('--symbols <n>', 'different symbols, in tasks that have such', positiveInteger, 8)
  .option('--scratchpad [part...]', `write the steps too, all or these parts: ${SCRATCHPAD_PARTS.join(', ')}`)
  .option('--width <n>', 'width of the model', positiveInteger, 32)
  .option('--heads <n>', 'attention heads', positiveInteger, 4)
  .option('--layers <n>', 'blocks', positiveInteger, 2)
  .option('--learning-rate <x>', 'peak learning rate', nonNegative, 2e-3)
  .option('--out <folder>', 'where the numbers (lengths.json) and the picture (lengths.svg) go', 'lengths')
  .addHelpText('after', `\nTasks:\n${taskList}\n\nEncodings:\n${listOf(ENCODINGS)}`)
  .action(async (options: Options) => {
    const { out, trainLength, testLength = 2 * trainLength, task, encodings } = options;
    const seeds = Array.from({ length: options.seeds }, (_, seed) => seed);
    await startBackend();
    const events = lengthGeneralization({
      ...options,
      scratchpad: scratchpadOf(options.scratchpad),
      testLength,
      seeds,
    });
    await mkdir(out, { recursive: true });
    const runs: LengthsRun[] = [];
    for await (const event of events) {
      const place = `${event.encoding} seed ${event.seed}`;
      if (event.type === 'step') {
        if (process.stderr.isTTY)
          process.stderr.write(`\r\x1b[K${place} step ${event.step} loss ${event.loss.toFixed(3)}`);
        continue;
      }
      const { type: _, ...run } = event;
      runs.push(run);
      const [{ seen, unseen }] = summarizeLengths([run], trainLength);
      if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
      process.stderr.write(
        `[${runs.length}/${encodings.length * seeds.length}] ${place}: up to ${trainLength} ${percent(seen)}, ` +
          `beyond ${percent(unseen)} (${event.seconds.toFixed(0)} s)\n`,
      );
    }
    const summary = summarizeLengths(runs, trainLength);
    const settings = { ...options, testLength, seeds, out: undefined };
    await writeFileAtomic(join(out, 'lengths.json'), `${JSON.stringify({ settings, summary, runs }, null, 2)}\n`);
    const title = `${task}: ${LENGTH_TASKS[task as keyof typeof LENGTH_TASKS].description}`;
    await writeFile(join(out, 'lengths.svg'), lengthsChart(title, summary, trainLength));
    process.stdout.write(
      `${table(summary, trainLength)}\nRight answers in percent, by length; ${trainLength} is the longest in training. ` +
        `Numbers and picture are in ${out}.\n`,
    );
  });

/** Of `--scratchpad`: all parts that the task has, or those named. */
function scratchpadOf(parts: true | string[] | undefined): Scratchpad | undefined {
  if (parts === undefined || parts === true) return parts;
  const switches = [...SCRATCHPAD_PARTS, ...parts].map((part) => [part, parts.includes(part)]);
  return Object.fromEntries(switches) as Scratchpad;
}

const percent = (share: number | null): string => (share === null ? 'refuses' : `${Math.round(100 * share)}%`);

/** At most so many lengths fit in a line. */
const COLUMNS = 12;

/** A line for each encoding: accuracy at some lengths, the ends and the longest trained one among them, and the means. */
function table(summary: readonly LengthsSummary[], trainLength: number): string {
  const lengths = summary[0].accuracy.map(({ length }) => length);
  const every = Math.ceil(lengths.length / COLUMNS);
  const shown = lengths.filter((length) => (length - trainLength) % every === 0 || length === lengths.at(-1));
  const line = (name: string, cells: readonly string[]): string =>
    `${name.padEnd(12)}${cells.map((cell) => cell.padStart(6)).join('')}\n`;
  const rows = summary.map(({ encoding, accuracy, seen, unseen }) => {
    const at = new Map(accuracy.map((entry) => [entry.length, entry.accuracy]));
    const cells = shown.map((length) => {
      const share = at.get(length) ?? null;
      return share === null ? '-' : String(Math.round(100 * share));
    });
    return line(encoding, [...cells, percent(seen), percent(unseen)]);
  });
  const refuses = summary.some(({ accuracy }) => accuracy.some((entry) => entry.accuracy === null));
  const note = refuses ? "'-': the encoding refuses the length, and it counts as wrong.\n" : '';
  return `${line('', [...shown.map(String), 'seen', 'new'])}${rows.join('')}${note}`;
}
