import { ConfigError } from '@ashlar/tensor';
import { isRank, refuse } from '../check-options.ts';

/** Which entries train: the smallest by magnitude, or for ablations as many of the largest, or at random. */
export type SaraSelection = 'smallest' | 'largest' | 'random';

export interface SaraConfig {
  /** Entries with `|p| < threshold` train. Default 2e-3, the paper's for diffusion networks; see also `fraction`. */
  threshold?: number;
  /** In its place: the share of smallest entries over all parameters together, in (0, 1]; the paper takes 0.6% to 6%. */
  fraction?: number;
  /** In its place: the number of smallest entries. More train where several are equal to the last. */
  count?: number;
  /** Strength of the low-rank term; 0 leaves it out. Default 5e-4. */
  lambdaRank?: number;
  /** Steps after which entries that have grown past the threshold freeze; the paper takes half of all. Default never. */
  progressiveStep?: number;
  /** The low-rank term takes matrices whose shorter side is longer than this. Default 64. */
  minMatrixSide?: number;
  /** The low-rank term takes matrices with more training entries than this. Default 100. */
  minMaskEntries?: number;
  /** Parameters, or modules with all that is in them: names or ends of names, or a pattern of a whole name. Default all. */
  include?: string | readonly string[];
  /** Left out, in the same two forms; wins over `include`. */
  exclude?: string | readonly string[];
  /** Default 'smallest'. */
  selection?: SaraSelection;
  /** Of the selection at random. Default 0. */
  seed?: number;
}

const DEFAULTS = {
  lambdaRank: 5e-4,
  minMatrixSide: 64,
  minMaskEntries: 100,
  selection: 'smallest',
  seed: 0,
} as const;

const SELECTIONS: readonly string[] = ['smallest', 'largest', 'random'];

export type CheckedSaraConfig = SaraConfig & Required<Pick<SaraConfig, keyof typeof DEFAULTS>>;

/** Fills in the defaults and checks every option. @throws ConfigError naming it, what it was and what it may be. */
export function checkSaraConfig(config: SaraConfig): CheckedSaraConfig {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const full = { ...DEFAULTS, ...given } as CheckedSaraConfig;
  const { threshold, fraction, count, lambdaRank, progressiveStep, selection, seed } = full;
  const budgets = Object.entries({ threshold, fraction, count }).filter(([, value]) => value !== undefined);
  if (budgets.length > 1) {
    throw new ConfigError(`${budgets.map(([name]) => name).join(' and ')} each set how much trains; give one.`);
  }
  if (threshold !== undefined && !(isNumber(threshold) && Math.fround(threshold) >= 2 ** -126)) {
    refuse('threshold', threshold, 'a finite number above 0');
  }
  if (fraction !== undefined && !(isNumber(fraction) && fraction > 0 && fraction <= 1)) {
    refuse('fraction', fraction, 'in (0, 1]');
  }
  if (count !== undefined && !isRank(count)) refuse('count', count, 'a positive integer');
  if (!(isNumber(lambdaRank) && lambdaRank >= 0)) refuse('lambdaRank', lambdaRank, 'a finite number of at least 0');
  if (progressiveStep !== undefined && !isRank(progressiveStep)) {
    refuse('progressiveStep', progressiveStep, 'a positive integer, or left out for never');
  }
  for (const option of ['minMatrixSide', 'minMaskEntries'] as const) {
    const value = full[option];
    if (!(Number.isInteger(value) && value >= 0)) refuse(option, value, 'an integer of at least 0');
  }
  for (const option of ['include', 'exclude'] as const) checkNames(option, full[option]);
  if (!SELECTIONS.includes(selection)) refuse('selection', selection, `one of ${SELECTIONS.join(', ')}`);
  if (!(Number.isSafeInteger(seed) && seed >= 0)) refuse('seed', seed, 'an integer of at least 0');
  return budgets.length === 0 ? { ...full, threshold: 2e-3 } : full;
}

const isNumber = (value: unknown): boolean => typeof value === 'number' && Number.isFinite(Math.fround(value));

function checkNames(option: string, value: unknown): void {
  const list = Array.isArray(value) ? value : [value];
  if (value !== undefined && !list.every((entry) => typeof entry === 'string')) {
    refuse(option, value, 'a string or a list of them');
  }
}

/**
 * The learning rate that suits a threshold, where none is given: `1e-3 exp(-350 threshold)`; the more entries train, the
 * smaller the steps. With a cosine schedule and no warm-up.
 */
export const saraLearningRate = (threshold: number): number => 1e-3 * Math.exp(-350 * threshold);
