import { ConfigError, FormatError, quote } from '@ashlar/tensor';
import { ownOptions, readAdapterConfig } from '../adapter-files.ts';
import { isRank } from '../check-options.ts';
import { type CheckedSaraConfig, checkSaraConfig, type SaraConfig } from './config.ts';

/** What a file says of a parameter: how many of its entries train, and a checksum of its base and of their places. */
export interface SaraBase {
  readonly count: number;
  readonly checksum: string;
}

/** What an `adapter_config.json` of type SARA holds: the options, with the threshold that a budget came to. */
export interface SaraFile extends Omit<SaraConfig, 'fraction' | 'count'> {
  readonly base: Readonly<Record<string, SaraBase>>;
}

export const FIELDS: Readonly<Record<string, keyof SaraFile>> = {
  threshold: 'threshold',
  lambda_rank: 'lambdaRank',
  progressive_step: 'progressiveStep',
  min_matrix_side: 'minMatrixSide',
  min_mask_entries: 'minMaskEntries',
  include: 'include',
  exclude: 'exclude',
  selection: 'selection',
  seed: 'seed',
  base: 'base',
};

/** What `read` throws for options is the fault of the file that has them. @throws FormatError naming the file. */
export function asFormatError<T>(source: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof ConfigError) throw new FormatError(`${source}: ${error.message}`);
    throw error;
  }
}

/** @throws FormatError naming the file and what is wrong in it. */
export async function readSaraFile(
  dir: string,
): Promise<{ config: CheckedSaraConfig; base: ReadonlyMap<string, SaraBase>; source: string }> {
  const { json, source } = await readAdapterConfig(dir);
  const { base, ...config } = ownOptions<SaraFile>('SARA', json, FIELDS, source);
  if (typeof base !== 'object' || Array.isArray(base)) {
    throw new FormatError(
      `${source}: base is ${quote(base)}; it must be an object from names to counts and checksums.`,
    );
  }
  for (const [name, entry] of Object.entries(base)) {
    if (!isRank(entry?.count) || typeof entry.checksum !== 'string') {
      throw new FormatError(
        `${source}: base[${quote(name)}] is ${quote(entry)}; it must have a count, a positive integer, and a checksum.`,
      );
    }
  }
  return { config: asFormatError(source, () => checkSaraConfig(config)), base: new Map(Object.entries(base)), source };
}

/** What of `given`, in a file, is not what this model has, one problem a line. */
export function baseProblems(given: ReadonlyMap<string, SaraBase>, own: ReadonlyMap<string, SaraBase>): string[] {
  const names = [...new Set([...given.keys(), ...own.keys()])];
  const counts = names.filter((name) => given.get(name)?.count !== own.get(name)?.count);
  const foreign = names.filter(
    (name) => !counts.includes(name) && given.get(name)?.checksum !== own.get(name)?.checksum,
  );
  return [
    ...counts.map((name) => {
      const [theirs, ours] = [given.get(name)?.count ?? 0, own.get(name)?.count ?? 0];
      return `${quote(name)} has ${theirs} selected entries in the file, ${ours} in the model`;
    }),
    ...(foreign.length > 0 ? [`made for other base weights: ${foreign.join(', ')}`] : []),
  ];
}
