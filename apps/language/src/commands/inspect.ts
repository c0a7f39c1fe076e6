import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inspect } from '@ashlar/encodings';
import { ConfigError, closestNames, Rng } from '@ashlar/tensor';
import { Command } from 'commander';
import { startBackend } from '../backend.ts';
import { ENCODINGS, gridOf, listOf, type NamedEncoding, PATCH_ENCODINGS } from '../encodings.ts';
import { inspectionFigure } from '../report/figure.ts';
import { positiveInteger, wholeNumber } from './options.ts';

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
  .option('--out <folder>', 'where the pictures (.svg) and the numbers (.json) go', 'encodings')
  .option('--length <n>', 'trained length; the curves reach four times as far', positiveInteger, 32)
  .option('--heads <n>', 'attention heads', positiveInteger, 4)
  .option('--head-dim <n>', 'channels of a head', positiveInteger, 16)
  .option('--seed <n>', 'seed of what is learned and not trained yet', wholeNumber, 0)
  .addHelpText('after', `\nOf text:\n${listOf(ENCODINGS)}\n\nOf patches:\n${listOf(PATCH_ENCODINGS)}`)
  .action(async ({ encodings = Object.keys(ALL), out, length, heads, headDim, seed }: Options) => {
    for (const name of encodings) {
      if (Object.hasOwn(ALL, name)) continue;
      throw new ConfigError(
        `--encodings: there is no '${name}'. Closest: ${closestNames(name, Object.keys(ALL), 2).join(', ')}.`,
      );
    }
    await startBackend();
    await mkdir(out, { recursive: true });
    process.stdout.write(`${COLUMNS.map((title, i) => (i === 0 ? title.padEnd(12) : title.padStart(17))).join('')}\n`);
    for (const name of encodings) {
      const { make, description } = ALL[name];
      const rng = new Rng(seed).fork(name);
      const encoding = make({ heads, headDim, layers: 1, trainedLength: length, rng });
      const grid = Object.hasOwn(PATCH_ENCODINGS, name) ? gridOf(length) : undefined;
      const inspection = await inspect(encoding, { heads, headDim, length, grid });
      await writeFile(join(out, `${name}.svg`), inspectionFigure(`${name}: ${description}`, inspection));
      await writeFile(join(out, `${name}.json`), `${JSON.stringify(inspection)}\n`);
      const { monotonicity, shiftInvariance, symmetry, extrapolation } = inspection;
      const cells = [monotonicity, shiftInvariance, symmetry].map((value) => value.toFixed(2));
      cells.push(extrapolation.refusal === undefined ? `${Math.round(100 * extrapolation.unseen)}%` : 'refuses');
      process.stdout.write(`${name.padEnd(12)}${cells.map((cell) => cell.padStart(17)).join('')}\n`);
    }
    process.stdout.write(`\nPictures and numbers are in ${out}.\n`);
  });
