/** Mean and sample standard deviation of one number over the seeds. */
export interface Measured {
  mean: number;
  spread: number;
  /** One value per seed, in the order of the claim's seeds. */
  values: number[];
}

export type Outcome = 'reproduced' | 'partly' | 'not reproduced';

/**
 * An experiment that a paper's claim can be checked with, as the default export of `packages/<name>/claims/<slug>.ts`.
 *
 * What `run` returns is a table in flat form: `'LoRA r=8/accuracy %': 90.6` is the number in row `LoRA r=8` and column
 * `accuracy %`; every seed returns the same names.
 */
export interface Claim {
  /** The method's slug, also the file's name. */
  slug: string;
  title: string;
  /** Paper, year, arXiv id. */
  source: string;
  /** What is claimed, in one or two sentences, with the numbers that must hold. */
  statement: string;
  /** The rows of the table that the method is compared with. */
  baselines: readonly string[];
  /** At least three. */
  seeds: readonly number[];
  /** One seed's measurements; `log` tells of progress. */
  run(context: { seed: number; log(message: string): void }): Promise<Record<string, number>>;
  /** Fixed before measuring: what the means and spreads over all seeds say about the statement, and why. */
  verdict(results: Record<string, Measured>): { verdict: Outcome; reason: string };
}

/** Checks a claim's form. */
export function defineClaim(claim: Claim): Claim {
  const fail = (problem: string): never => {
    throw new Error(`claim '${claim.slug}': ${problem}`);
  };
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(claim.slug)) fail('the slug must be lower-case words joined by hyphens');
  if (new Set(claim.seeds).size < 3) fail(`needs at least 3 different seeds, but has [${claim.seeds.join(', ')}]`);
  if (claim.baselines.length === 0) fail('needs at least one baseline');
  return claim;
}

/** `reproduced` if all of the named inequalities hold, `partly` if more than half of them do. */
export function verdictOf(checks: readonly (readonly [name: string, holds: boolean])[]): ReturnType<Claim['verdict']> {
  const failed = checks.filter(([, holds]) => !holds).map(([name]) => name);
  if (failed.length === 0) return { verdict: 'reproduced', reason: 'every inequality holds on the mean over seeds' };
  return {
    verdict: failed.length < checks.length / 2 ? 'partly' : 'not reproduced',
    reason: `does not hold: ${failed.join('; ')}`,
  };
}
