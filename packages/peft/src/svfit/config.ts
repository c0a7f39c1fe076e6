import { ConfigError } from '@ashlar/tensor';
import type { SvdAlgorithm } from '../cached-svd.ts';
import { checkPattern, checkTargets, isRank, refuse } from '../check-options.ts';
import type { TargetOptions } from '../match.ts';

/** What counts as the energy of singular values: their squares, or the values themselves. */
export type EnergyKind = 'squared' | 'linear';

export interface SVFitConfig extends TargetOptions {
  /** Singular values that train per layer. Default all, `min(out, in)`; fewer where the weight has not that rank. */
  r?: number;
  /** In place of `r`: as few as hold this share of the energy, in (0, 1]; the paper keeps 0.99. */
  energy?: number;
  /** Default 'squared'. */
  energyKind?: EnergyKind;
  /** Ranks of modules whose name ends with the key (a regular expression); the first that matches counts. */
  rankPattern?: Readonly<Record<string, number>>;
  /**
   * Which directions: the leading ones (default), or for ablations the last ones or random orthonormal ones, which have
   * nothing to do with the weight.
   */
  selection?: 'top' | 'bottom' | 'random';
  /** What trains: 'sigma' (default), or 'scale': `c` in `sigma = S (1 + c)`, from 0. */
  parametrization?: 'sigma' | 'scale';
  /**
   * Default 'auto': randomized for the leading quarter at most of weights larger than 512 x 512, else exact. With `energy`
   * and with the last directions it is exact, as they need the whole spectrum.
   */
  svd?: 'auto' | SvdAlgorithm;
  /** A folder that keeps the decompositions by hash of the weight. Default none. Node only. */
  cacheDir?: string;
  /** Of random directions. Default 0. */
  seed?: number;
}

const DEFAULTS = {
  energyKind: 'squared',
  rankPattern: {},
  selection: 'top',
  parametrization: 'sigma',
  svd: 'auto',
  seed: 0,
} as const;

export type CheckedSVFitConfig = SVFitConfig & Required<Pick<SVFitConfig, keyof typeof DEFAULTS>>;

const CHOICES = {
  energyKind: ['squared', 'linear'],
  selection: ['top', 'bottom', 'random'],
  parametrization: ['sigma', 'scale'],
  svd: ['auto', 'exact', 'randomized'],
} as const;

/** Fills in the defaults and checks every option. @throws ConfigError naming it, what it was and what it may be. */
export function checkSVFitConfig(config: SVFitConfig): CheckedSVFitConfig {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const full = { ...DEFAULTS, ...given } as CheckedSVFitConfig;
  const { r, energy, selection, cacheDir, seed } = full;
  if (r !== undefined && !isRank(r)) refuse('r', r, 'a positive integer');
  if (energy !== undefined) checkEnergy(energy);
  if (r !== undefined && energy !== undefined) throw new ConfigError('r and energy both set the rank; give one.');
  for (const option of Object.keys(CHOICES) as (keyof typeof CHOICES)[]) {
    const choices: readonly string[] = CHOICES[option];
    if (!choices.includes(full[option])) refuse(option, full[option], `one of ${choices.join(', ')}`);
  }
  if (cacheDir !== undefined && typeof cacheDir !== 'string') refuse('cacheDir', cacheDir, 'a folder');
  if (!Number.isSafeInteger(seed)) refuse('seed', seed, 'an integer');
  checkTargets(full);
  checkPattern('rankPattern', full.rankPattern, isRank, 'a positive integer');
  if (energy === undefined && selection !== 'bottom') return full;
  if (full.svd === 'randomized') refuse('svd', full.svd, "'exact' with energy or selection 'bottom'");
  return { ...full, svd: 'exact' };
}

function checkEnergy(energy: number): void {
  if (!(energy > 0 && energy <= 1)) refuse('energy', energy, 'in (0, 1]');
}

/**
 * The smallest `r` with `sum_{j <= r} e_j / sum e >= tau`, where `e = S^2`, or `S` for 'linear'.
 * @param singularValues descending.
 * @throws ConfigError unless `tau` is in (0, 1] and some value is not zero.
 */
export function rankForEnergy(singularValues: ArrayLike<number>, tau: number, kind: EnergyKind = 'squared'): number {
  checkEnergy(tau);
  let total = 0;
  const sums = Array.from(singularValues, (value) => {
    total += kind === 'squared' ? value ** 2 : value;
    return total;
  });
  if (total === 0) throw new ConfigError('All singular values are zero: there is no energy to hold.');
  return sums.findIndex((held) => held >= tau * total) + 1;
}
