import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Machine } from '../../workspace/src/machine.ts';
import type { Measured, Outcome } from './define-claim.ts';

/** One seed's measurements, with what they were made by. */
export interface SeedRun {
  seed: number;
  /** Hash of the program that measured. */
  code: string;
  seconds: number;
  values: Record<string, number>;
}

/** `docs/claims/<slug>.json`: a claim as measured. While `outcome` is missing, seeds are still to be run. */
export interface ClaimRecord {
  slug: string;
  title: string;
  source: string;
  statement: string;
  baselines: readonly string[];
  seeds: readonly number[];
  date: string;
  backend: string;
  machine: Machine;
  versions: Record<string, string>;
  runs: SeedRun[];
  results?: Record<string, Measured>;
  outcome?: { verdict: Outcome; reason: string };
}

export function recordPath(folder: string, slug: string): string {
  return join(folder, `${slug}.json`);
}

export function readRecord(path: string): ClaimRecord | undefined {
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as ClaimRecord) : undefined;
}

export function readRecords(folder: string): ClaimRecord[] {
  const files = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith('.json')) : [];
  return files.sort().map((file) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as ClaimRecord);
}

/** Writes beside the target and renames, so that an interrupted run never leaves half a file. */
export function writeWhole(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.part`, text);
  renameSync(`${path}.part`, path);
}

export function measure(runs: readonly SeedRun[]): Record<string, Measured> {
  const names = Object.keys(runs[0].values);
  for (const { seed, values } of runs) {
    const odd = [...names, ...Object.keys(values)].find((name) => !(name in values) || !names.includes(name));
    if (odd) throw new Error(`seed ${seed} and seed ${runs[0].seed} do not measure the same things: '${odd}'`);
  }
  return Object.fromEntries(names.map((name) => [name, measured(runs.map(({ values }) => values[name]))]));
}

function measured(values: number[]): Measured {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (values.length - 1);
  return { mean, spread: Math.sqrt(variance), values };
}
