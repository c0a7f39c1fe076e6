import { ConfigError } from '@ashlar/tensor';
import { isRank, refuse } from '../check-options.ts';

/** An attention head: its layer among the model's attention layers, and its index among the query heads, from 0. */
export type Head = readonly [layer: number, head: number];

export interface LofitConfig {
  /** The heads that the adapter acts on. Default all. */
  heads?: readonly Head[];
  /** Whether offsets `v` train. Default true. */
  offset?: boolean;
  /** Whether scalings `A` train: stage 1. Default false. */
  scale?: boolean;
  /** Of the normal distribution that they start from. Default 1e-3. */
  initStd?: number;
  /**
   * Names (or ends of names) of the attention layers' output projections. Default: `o_proj` and `out_proj` beside a
   * `q_proj`, `c_proj` beside a `c_attn`.
   */
  projections?: readonly string[];
  /** Query heads of an attention layer. Default: what the layer or the model's config says. */
  numHeads?: number;
}

const DEFAULTS = { offset: true, scale: false, initStd: 1e-3 } as const;

export type CheckedLofitConfig = LofitConfig & Required<Pick<LofitConfig, keyof typeof DEFAULTS>>;

/** Fills in the defaults and checks every option. @throws ConfigError naming it, what it was and what it may be. */
export function checkLofitConfig(config: LofitConfig): CheckedLofitConfig {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const full = { ...DEFAULTS, ...given } as CheckedLofitConfig;
  const { heads, offset, scale, initStd, projections, numHeads } = full;
  if (heads !== undefined) checkHeads(heads);
  for (const [option, value] of Object.entries({ offset, scale })) {
    if (typeof value !== 'boolean') refuse(option, value, 'true or false');
  }
  if (!offset && !scale) throw new ConfigError('Neither offset nor scale is true: nothing would train.');
  if (!(Number.isFinite(initStd) && initStd >= 0)) refuse('initStd', initStd, 'a finite number of at least 0');
  if (projections !== undefined && !(Array.isArray(projections) && projections.every((n) => typeof n === 'string'))) {
    refuse('projections', projections, 'a list of names');
  }
  if (numHeads !== undefined && !isRank(numHeads)) refuse('numHeads', numHeads, 'a positive integer');
  return full;
}

function checkHeads(heads: unknown): void {
  const isIndex = (value: unknown): boolean => Number.isInteger(value) && (value as number) >= 0;
  const isHead = (value: unknown): boolean => Array.isArray(value) && value.length === 2 && value.every(isIndex);
  if (!Array.isArray(heads) || heads.length === 0 || !heads.every(isHead)) {
    refuse('heads', heads, 'a list of [layer, head] that is not empty');
  }
  const names = (heads as Head[]).map(String);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new ConfigError(`heads has [${twice}] twice.`);
}
