import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import { markdownTable } from 'markdown-table';
import '../../workspace/src/backend.ts';
import { getThreads } from '@ashlar/backend-ort';
import { machine, versions } from '../../workspace/src/machine.ts';
import { packageScripts } from '../../workspace/src/packages.ts';
import type { defineBench } from './define-bench.ts';
import { type Absence, measureCase, type Timing } from './measure.ts';
import { writeDocs } from './write-docs.ts';

const number =
  (least: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!(value >= least)) throw new InvalidArgumentError(`It must be a number >= ${least}.`);
    return value;
  };

const program = new Command('pnpm bench')
  .description('Times contestants in turns and prints the median of each.')
  .argument('[name...]', 'the benchmarks to run (default: all)')
  .option('--list', 'list the benchmarks, run nothing')
  .option('--rounds <n>', 'samples per contestant', number(5), 7)
  .option('--sample-time <ms>', 'least duration of one sample', number(0), 20)
  .option('--json <file>', 'write the timings, with versions and machine, to a file')
  .option('--write-docs', 'renew the sections of these benchmarks in docs/benchmarks.md')
  .parse();

const {
  list,
  rounds,
  sampleTime,
  json,
  writeDocs: renew,
} = program.opts<{
  list?: boolean;
  rounds: number;
  sampleTime: number;
  json?: string;
  writeDocs?: boolean;
}>();
const all = packageScripts('bench');
const unknown = program.args.filter((arg) => !all.some(({ name }) => name === arg));
if (unknown.length > 0) {
  program.error(`error: no benchmark ${unknown.join(', ')}; there are: ${all.map(({ name }) => name).join(', ')}`);
}
const wanted = program.args.length > 0 ? all.filter(({ name }) => program.args.includes(name)) : all;

if (list) {
  for (const { name, path } of wanted) console.log(`${name} (${path})`);
} else {
  const setting = { machine: machine(), versions: versions(), threads: getThreads() };
  const { cpu, cores } = setting.machine;
  const where = `${cpu}, ${cores} cores, ${setting.threads} threads in ort; ${rounds} rounds, milliseconds per run`;
  console.log(`${where}\n`);
  const results: Record<string, Record<string, (Timing | Absence)[]>> = {};
  for (const { name, path } of wanted) {
    const { default: cases } = (await import(pathToFileURL(path).href)) as { default: ReturnType<typeof defineBench> };
    results[name] = {};
    for (const make of cases) {
      const bench = await make();
      const timings = await measureCase(bench, { rounds, sampleTime });
      await bench.cleanUp?.();
      results[name][bench.name] = timings;
      console.log(`${name}: ${bench.name}\n${table(timings)}\n`);
    }
    if (renew) {
      const tables = Object.entries(results[name]).map(([title, timings]) => `### ${title}\n\n${table(timings)}`);
      const libraries = Object.entries(setting.versions).map(([library, version]) => `${library} ${version}`);
      writeDocs(name, `${where}; ${libraries.join(', ')}. ${new Date().toISOString().slice(0, 10)}.`, tables);
    }
  }
  if (json) writeFileSync(json, `${JSON.stringify({ ...setting, rounds, results }, null, 2)}\n`);
}

function table(timings: readonly (Timing | Absence)[]): string {
  const taken = timings.filter((timing) => 'median' in timing);
  const fastest = Math.min(...taken.map(({ median }) => median));
  const digits = (x: number): string => String(Number(x.toPrecision(3)));
  const notes = [...new Set(taken.flatMap((timing) => Object.keys(timing.notes ?? {})))];
  const hasRate = taken.some(({ rate }) => rate !== undefined);
  return markdownTable(
    [
      ['', 'median', 'min', 'max', 'relative', ...(hasRate ? ['GFLOP/s'] : []), ...notes],
      ...timings.map((timing) => {
        if ('absent' in timing) return [timing.contestant, `absent: ${timing.absent}`];
        const { contestant, median, min, max, samples, rate } = timing;
        return [
          contestant,
          samples === 1 ? `${digits(median)} (once)` : digits(median),
          digits(min),
          digits(max),
          `${digits(median / fastest)}x`,
          ...(hasRate ? [rate === undefined ? '' : digits(rate)] : []),
          ...notes.map((note) => String(timing.notes?.[note] ?? '')),
        ];
      }),
    ],
    { align: ['l', ...new Array<string>(5 + notes.length).fill('r')] },
  );
}
