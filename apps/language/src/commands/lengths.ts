import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LENGTH_TASKS, SCRATCHPAD_PARTS, type Scratchpad } from '@ashlar/data';
import { ConfigError, FormatError, makeFolder, quote, writeFileAtomic } from '@ashlar/tensor';
import { Command } from 'commander';
import { startBackend } from '../backend.ts';
import { ENCODINGS, listOf } from '../encodings.ts';
import { type LengthsRun, type LengthsSummary, lengthGeneralization, summarizeLengths } from '../lengths.ts';
import { lengthsChart } from '../report/figure.ts';
import { folderName, nonNegative, positiveInteger } from './options.ts';

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
  fresh?: true;
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
  .option('--out <folder>', 'where the numbers (lengths.json) and the picture (lengths.svg) go', folderName, 'lengths')
  .option('--fresh', 'start over where the folder has runs already (default: continue them)')
  .addHelpText('after', `\nTasks:\n${taskList}\n\nEncodings:\n${listOf(ENCODINGS)}`)
  .action(async (options: Options) => {
    const { out, fresh, ...given } = options;
    const { trainLength, testLength = 2 * trainLength, task } = given;
    const seeds = Array.from({ length: given.seeds }, (_, seed) => seed);
    const encodings = [...new Set(given.encodings)];
    const settings = { ...given, encodings, testLength, seeds };
    const path = join(out, 'lengths.json');
    const runs = fresh ? [] : await earlierRuns(path, settings);
    await startBackend();
    const events = lengthGeneralization({ ...settings, scratchpad: scratchpadOf(given.scratchpad), done: runs });
    await makeFolder(out);
    const save = async (): Promise<LengthsSummary[]> => {
      const summary = summarizeLengths(runs, trainLength);
      await writeFileAtomic(path, `${JSON.stringify({ settings, summary, runs }, null, 2)}\n`);
      return summary;
    };
    // Before the first run, so that a folder that cannot be written to costs none.
    let summary = await save();
    const total = encodings.length * seeds.length;
    if (runs.length > 0)
      process.stderr.write(`${runs.length} of ${total} runs are in ${path} already (--fresh starts over).\n`);
    for await (const event of events) {
      const place = `${event.encoding} seed ${event.seed}`;
      if (event.type === 'step') {
        if (process.stderr.isTTY)
          process.stderr.write(`\r\x1b[K${place} step ${event.step} loss ${event.loss.toFixed(3)}`);
        continue;
      }
      const { type: _, ...run } = event;
      runs.push(run);
      summary = await save();
      const [{ seen, unseen }] = summarizeLengths([run], trainLength);
      if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
      process.stderr.write(
        `[${runs.length}/${total}] ${place}: up to ${trainLength} ${percent(seen)}, ` +
          `beyond ${percent(unseen)} (${event.seconds.toFixed(0)} s)\n`,
      );
    }
    const title = `${task}: ${LENGTH_TASKS[task as keyof typeof LENGTH_TASKS].description}`;
    await writeFileAtomic(join(out, 'lengths.svg'), lengthsChart(title, summary, trainLength));
    process.stdout.write(
      `${table(summary, trainLength)}\nRight answers in percent, by length; ${trainLength} is the longest in training. ` +
        `Numbers and picture are in ${out}.\n`,
    );
  });

/**
 * The runs of an earlier call, stopped or not; none where there is no file.
 * @throws ConfigError naming the settings in which it differs from this one, FormatError if its file cannot be read.
 */
async function earlierRuns(path: string, settings: Readonly<Record<string, unknown>>): Promise<LengthsRun[]> {
  let saved: { settings: Record<string, unknown>; runs: LengthsRun[] };
  try {
    saved = Object(JSON.parse(await readFile(path, 'utf8')));
    if (!(Array.isArray(saved.runs) && saved.runs.every(isRun) && saved.settings instanceof Object))
      throw new Error('it has no runs of this command.');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    const reason = (error as Error).message;
    throw new FormatError(`${path} cannot be continued: ${reason} Use another --out, or --fresh.`, { cause: error });
  }
  if (saved.runs.length === 0) return [];
  const differing = [...new Set([...Object.keys(saved.settings), ...Object.keys(settings)])].filter(
    (name) => JSON.stringify(saved.settings[name]) !== JSON.stringify(settings[name]),
  );
  if (differing.length === 0) return saved.runs;
  const list = differing.map((name) => `${name} was ${quote(saved.settings[name])}, is ${quote(settings[name])}`);
  throw new ConfigError(
    `${path} has runs with other settings: ${list.join('; ')}. Use the same, another --out, or --fresh to start over.`,
  );
}

const isRun = (run: Partial<LengthsRun> | null): boolean =>
  typeof run?.encoding === 'string' && typeof run.seed === 'number' && Array.isArray(run.accuracy);

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
