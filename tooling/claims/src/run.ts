import { machine, versions } from '../../workspace/src/machine.ts';
import { codeVersion } from './code-version.ts';
import type { Claim } from './define-claim.ts';
import { type ClaimRecord, measure, readRecord, recordPath, type SeedRun, writeWhole } from './record.ts';

export interface RunOptions {
  /** The claim's file. */
  path: string;
  /** Where records are kept. */
  folder: string;
  backend: string;
  /** Measures again what the record already holds. */
  fresh: boolean;
  log(line: string): void;
}

/**
 * Runs the seeds that the record does not hold yet for this version of the program, saving after each, and then lets
 * the claim judge.
 */
export async function runClaim(claim: Claim, options: RunOptions): Promise<ClaimRecord> {
  const { path, folder, backend, fresh, log } = options;
  const { slug, title, source, statement, baselines, seeds } = claim;
  const code = await codeVersion(path);
  const file = recordPath(folder, slug);
  const old = fresh ? undefined : readRecord(file);
  const finished = new Map(
    (old?.backend === backend ? old.runs : []).filter((run) => run.code === code).map((run) => [run.seed, run]),
  );
  const resumed = seeds.every((seed) => finished.has(seed)) ? old : undefined;
  const record = (): ClaimRecord => ({
    slug,
    title,
    source,
    statement,
    baselines,
    seeds,
    date: resumed?.date ?? new Date().toISOString().slice(0, 10),
    backend,
    machine: resumed?.machine ?? machine(),
    versions: resumed?.versions ?? versions(),
    runs: seeds.flatMap((seed) => finished.get(seed) ?? []),
  });

  for (const [i, seed] of seeds.entries()) {
    const prefix = `${slug} seed ${seed} (${i + 1}/${seeds.length})`;
    if (finished.has(seed)) {
      log(`${prefix}: already measured`);
      continue;
    }
    log(`${prefix}: running`);
    const start = performance.now();
    const elapsed = (): number => Math.round((performance.now() - start) / 100) / 10;
    const values = await claim.run({ seed, log: (message) => log(`${prefix}: ${message} [${elapsed()} s]`) });
    checkValues(values, claim, seed);
    finished.set(seed, { seed, code, seconds: elapsed(), values } satisfies SeedRun);
    writeWhole(file, `${JSON.stringify(record(), null, 2)}\n`);
    log(`${prefix}: done in ${elapsed()} s`);
  }

  const results = measure(record().runs);
  const complete = { ...record(), results, outcome: claim.verdict(results) };
  writeWhole(file, `${JSON.stringify(complete, null, 2)}\n`);
  return complete;
}

function checkValues(values: Record<string, number>, { slug, baselines }: Claim, seed: number): void {
  const names = Object.keys(values);
  for (const name of names) {
    if (!Number.isFinite(values[name])) throw new Error(`claim '${slug}', seed ${seed}: '${name}' is ${values[name]}`);
  }
  for (const baseline of baselines) {
    if (!names.some((name) => name === baseline || name.startsWith(`${baseline}/`))) {
      throw new Error(`claim '${slug}', seed ${seed}: nothing was measured for the baseline '${baseline}'`);
    }
  }
}
