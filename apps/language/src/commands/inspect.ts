import { join } from 'node:path';
import { inspect } from '@ashlar/encodings';
import {
  AshlarError,
  ConfigError,
  closestNames,
  makeFolder,
  type PositionEncoding,
  Rng,
  writeFileAtomic,
} from '@ashlar/tensor';
import { Command } from 'commander';
import { startBackend } from '../backend.ts';
import { ENCODINGS, type EncodingSetting, gridOf, listOf, type NamedEncoding, PATCH_ENCODINGS } from '../encodings.ts';
import { inspectionFigure } from '../report/figure.ts';
import { folderName, integerFrom, positiveInteger, wholeNumber } from './options.ts';

interface Options {
  encodings?: string[];
  out: string;
  length: number;
  heads: number;
  headDim: number;
  seed: number;
}

const ALL: Readonly<Record<string, NamedEncoding>> = { ...ENCODINGS, ...PATCH_ENCODINGS };
const COLUMNS = ['encoding', 'monotonicity', 'shift invariance', 'symmetry', 'unseen beyond'];

export const inspectCommand: Command = new Command('inspect')
  .description('draw what position encodings do to attention: one picture and its numbers for each')
  .option('--encodings <name...>', 'see below (default: all)')
  .option('--out <folder>', 'where the pictures (.svg) and the numbers (.json) go', folderName, 'encodings')
  .option('--length <n>', 'trained length, 3 to 256; the curves reach four times as far', integerFrom(3, 256), 32)
  .option('--heads <n>', 'attention heads', positiveInteger, 4)
  .option('--head-dim <n>', 'channels of a head', positiveInteger, 16)
  .option('--seed <n>', 'seed of what is learned and not trained yet', wholeNumber, 0)
  .addHelpText('after', `\nOf text:\n${listOf(ENCODINGS)}\n\nOf patches:\n${listOf(PATCH_ENCODINGS)}`)
  .action(async ({ encodings = Object.keys(ALL), out, length, heads, headDim, seed }: Options) => {
    await startBackend();
    const all = makeAll(new Set(encodings), { heads, headDim, layers: 1, trainedLength: length }, seed);
    await makeFolder(out);
    process.stdout.write(`${COLUMNS.map((title, i) => (i === 0 ? title.padEnd(12) : title.padStart(17))).join('')}\n`);
    for (const [name, encoding] of all) {
      const grid = Object.hasOwn(PATCH_ENCODINGS, name) ? gridOf(length) : undefined;
      const inspection = await inspect(encoding, { heads, headDim, length, grid });
      await writeFileAtomic(
        join(out, `${name}.svg`),
        inspectionFigure(`${name}: ${ALL[name].description}`, inspection),
      );
      await writeFileAtomic(join(out, `${name}.json`), `${JSON.stringify(inspection)}\n`);
      const { monotonicity, shiftInvariance, symmetry, extrapolation } = inspection;
      const cells = [monotonicity, shiftInvariance, symmetry].map((value) => value.toFixed(2));
      cells.push(extrapolation.refusal === undefined ? `${Math.round(100 * extrapolation.unseen)}%` : 'refuses');
      process.stdout.write(`${name.padEnd(12)}${cells.map((cell) => cell.padStart(17)).join('')}\n`);
    }
    process.stdout.write(`\nPictures and numbers are in ${out}.\n`);
  });

/**
 * The encodings by name, before any of them is drawn.
 * @throws ConfigError for names that there are not, and encodings that do not fit the sizes.
 */
function makeAll(
  names: ReadonlySet<string>,
  setting: Omit<EncodingSetting, 'rng'>,
  seed: number,
): Map<string, PositionEncoding> {
  const all = new Map<string, PositionEncoding>();
  const misfits: string[] = [];
  for (const name of names) {
    if (!Object.hasOwn(ALL, name)) {
      const closest = closestNames(name, Object.keys(ALL), 2).join(', ');
      throw new ConfigError(`--encodings: there is no '${name}'. Closest: ${closest}.`);
    }
    try {
      all.set(name, ALL[name].make({ ...setting, rng: new Rng(seed).fork(name) }));
    } catch (error) {
      if (!(error instanceof AshlarError)) throw error;
      misfits.push(`\n  ${name}: ${error.message}`);
    }
  }
  if (misfits.length === 0) return all;
  throw new ConfigError(
    `--heads ${setting.heads}, --head-dim ${setting.headDim} and --length ${setting.trainedLength} do not fit all ` +
      `encodings. Choose others, or leave these out of --encodings:${misfits.join('')}`,
  );
}
