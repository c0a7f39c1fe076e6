import {
  ConfigError,
  checkChoice,
  checkInteger,
  type EncodingContext,
  mean,
  mul,
  NumericsError,
  quote,
  repeatInterleave,
  reshape,
  ShapeError,
  sqrt,
  square,
  sum,
  type Tensor,
  tidy,
  topKMask,
} from '@ashlar/tensor';
import { isNear, type Region, RegionalRope, type RegionalRopeOptions, truePlace } from './regional-rope.ts';
import type { RotaryLayout } from './rope.ts';

/** The place of a query far from its keys: `floor(i / s) + w - w / s`. */
export const farQueryPlace = (position: number, scale: number, window: number): number =>
  Math.floor(position / scale) + window - window / scale;

/** The place of a key far from its queries: `floor(j / s)`. */
export const farKeyPlace = (position: number, scale: number): number => Math.floor(position / scale);

export interface DpeOptions extends RegionalRopeOptions {
  /** Keys closer than this keep their true distance. Default 1024. */
  readonly window?: number;
  /** For each group of pairs, by how much far distances shrink: whole numbers from 1. */
  readonly scales: readonly number[];
  /** Where the groups begin and end among the pairs, `[0, …, headDim / 2]`. Default: equal groups. */
  readonly groups?: readonly number[];
  /**
   * Which pairs of which head are scaled, `[layers][heads][headDim / 2]`; the others keep true distances. See
   * `keyDimensionScores`. Default all.
   */
  readonly keyDimensions?: readonly (readonly (readonly boolean[])[])[];
}

/**
 * DPE: extends a rotary model past its trained length without training. Keys closer than `window` keep their distance; for
 * those farther away each pair `d` of channels sees the distance `floor(i / s_d) - floor(j / s_d) + w - w / s_d`, with a scale
 * for each group of pairs and only where the pair matters to the head. One softmax over both.
 *
 * A decode step equals the full pass. The authors' own step takes `floor(w / s_d)`, which differs where `s_d` does not divide
 * `w`.
 *
 * Source: Lu et al., "Effective Length Extrapolation via Dimension-Wise Positional Embeddings Manipulation" (COLM 2025,
 * arXiv 2504.18857).
 */
export class Dpe extends RegionalRope {
  readonly window: number;
  readonly scales: readonly number[];
  readonly groups: readonly number[];
  readonly keyDimensions: DpeOptions['keyDimensions'];
  /** The scale of each pair, for each layer and head or once for all. */
  readonly #scales: readonly (readonly number[])[][];

  /** @throws ConfigError for an option out of range or groups with gaps, ShapeError if the channels cannot be paired. */
  constructor(options: DpeOptions) {
    super(options);
    const pairs = this.headDim / 2;
    const { window = 1024, scales, keyDimensions } = options;
    checkInteger('Dpe', 'window', window);
    if (!Array.isArray(scales) || scales.length === 0) throw new ConfigError('Dpe: scales is empty; give one a group.');
    for (const [i, scale] of scales.entries()) checkInteger('Dpe', `scales[${i}]`, scale);
    const { groups = equalGroups(scales, pairs) } = options;
    const grows =
      Array.isArray(groups) &&
      groups.every((place, i) => Number.isInteger(place) && (i === 0 ? place === 0 : place > groups[i - 1]));
    if (!grows || groups.length !== scales.length + 1 || groups[scales.length] !== pairs) {
      throw new ConfigError(
        `Dpe: groups is ${quote(groups)}; it must rise from 0 to ${pairs}, the pairs of a head, in ${scales.length} steps.`,
      );
    }
    if (keyDimensions !== undefined) checkKeyDimensions(keyDimensions, pairs);
    this.window = window;
    this.scales = [...scales];
    this.groups = groups;
    this.keyDimensions = keyDimensions;
    const scaleOf = Array.from({ length: pairs }, (_, d) => scales[groups.findIndex((end) => end > d) - 1]);
    this.#scales = keyDimensions?.map((heads) =>
      heads.map((own) => own.map((matters, pair) => (matters ? scaleOf[pair] : 1))),
    ) ?? [[scaleOf]];
  }

  protected override regions({ layer }: EncodingContext, heads: number): Region[] {
    const { keyDimensions, window } = this;
    const scales = this.#scales[keyDimensions === undefined ? 0 : layer];
    if (scales === undefined) {
      throw new ConfigError(`Dpe: keyDimensions has ${this.#scales.length} layers; layer ${layer} is asked.`);
    }
    if (keyDimensions !== undefined && scales.length !== heads) {
      throw new ShapeError(`Dpe: keyDimensions has ${scales.length} heads in layer ${layer}; the model has ${heads}.`);
    }
    return [
      { query: truePlace, key: truePlace, mask: (query, key) => isNear(query, key, window) },
      {
        scales,
        query: (position, scale) => farQueryPlace(position, scale, window),
        key: farKeyPlace,
      },
    ];
  }
}

function equalGroups(scales: readonly number[], pairs: number): number[] {
  return scales.map((_, i) => (i * pairs) / scales.length).concat(pairs);
}

function checkKeyDimensions(layers: unknown, pairs: number): void {
  const heads: unknown[] = Array.isArray(layers) && layers.every(Array.isArray) ? layers.flat() : [undefined];
  for (const own of heads) {
    if (!Array.isArray(own) || !own.every((matters) => typeof matters === 'boolean')) {
      throw new ConfigError(
        `Dpe: keyDimensions is ${quote(layers)}; it must be true or false for each pair, [layers][heads][${pairs}].`,
      );
    }
    if (own.length !== pairs) {
      throw new ConfigError(`Dpe: keyDimensions has ${own.length} pairs for a head; it must have ${pairs}.`);
    }
  }
}

/**
 * How much each pair of channels contributes to the logits of each head: the mean over batch and tokens of
 * `|(q_d, q_{d+n})| |(k_d, k_{d+n})|`.
 * @param q `[batch, heads, seq, headDim]`, rotated or not. @param k `[batch, kvHeads, seq, headDim]`, as many tokens.
 * @returns `[heads, headDim / 2]`.
 * @throws ShapeError if the shapes do not fit, ConfigError for a layout that is none.
 */
export function keyDimensionScores(q: Tensor, k: Tensor, layout: RotaryLayout = 'half'): Tensor {
  checkChoice('keyDimensionScores', 'layout', layout, ['half', 'interleaved']);
  const [batch, heads, seq, headDim] = q.shape as [number, number, number, number];
  const [, kvHeads] = k.shape as [number, number];
  if (
    q.rank !== 4 ||
    headDim % 2 !== 0 ||
    heads % kvHeads !== 0 ||
    String(k.shape) !== String([batch, kvHeads, seq, headDim])
  ) {
    throw new ShapeError(
      `keyDimensionScores needs [batch, heads, seq, headDim] and [batch, kvHeads, seq, headDim], not [${q.shape}] and [${k.shape}].`,
    );
  }
  const halves = layout === 'half';
  const norms = (x: Tensor): Tensor => {
    const pairs = reshape(x, [...x.shape.slice(0, 3), ...(halves ? [2, headDim / 2] : [headDim / 2, 2])]);
    return sqrt(sum(square(pairs), halves ? 3 : 4));
  };
  return tidy(() => mean(mul(norms(q), repeatInterleave(norms(k), heads / kvHeads, 1)), [0, 2]));
}

/**
 * The `topK` pairs of each head with the highest `scores`, `[heads][headDim / 2]`: a layer's `keyDimensions`.
 * @throws ConfigError unless `topK` is from 1 to the pairs, ShapeError unless the scores are `[heads, pairs]`,
 * NumericsError if one of them is NaN or infinite.
 */
export async function selectKeyDimensions(scores: Tensor, topK: number): Promise<boolean[][]> {
  const [heads, pairs] = scores.shape as [number, number];
  if (scores.rank !== 2) {
    throw new ShapeError(`selectKeyDimensions takes scores [heads, pairs], not [${scores.shape}].`);
  }
  checkInteger('selectKeyDimensions', 'topK', topK);
  if (topK > pairs) throw new ConfigError(`selectKeyDimensions: topK is ${topK}; a head has ${pairs} pairs.`);
  const mask = topKMask(scores, topK);
  const [values, selected] = [await scores.data(), await mask.data()];
  mask.dispose();
  const odd = values.findIndex((score) => !Number.isFinite(score));
  if (odd >= 0) {
    throw new NumericsError(
      `selectKeyDimensions: the score of pair ${odd % pairs} of head ${Math.floor(odd / pairs)} is ${values[odd]}.`,
    );
  }
  return Array.from({ length: heads }, (_, head) =>
    Array.from(selected.slice(head * pairs, (head + 1) * pairs), (value) => value !== 0),
  );
}

/**
 * The scale of each group that works best at a target length: each candidate is tried in one group with the others at
 * `fallback`; the best one is kept, of equals the closest to `fallback`.
 * @param evaluate how well the model does with these scales; more is better.
 * @throws ConfigError for an option out of range, NumericsError where `evaluate` gives no number.
 */
export async function detectScales(
  evaluate: (scales: readonly number[]) => number | Promise<number>,
  options: { groups: number; candidates: readonly number[]; fallback: number },
): Promise<number[]> {
  const { groups, candidates, fallback } = options;
  checkInteger('detectScales', 'groups', groups);
  checkInteger('detectScales', 'fallback', fallback);
  if (!Array.isArray(candidates) || candidates.length === 0) {
    throw new ConfigError('detectScales: candidates is empty; give the scales to try.');
  }
  for (const [i, scale] of candidates.entries()) checkInteger('detectScales', `candidates[${i}]`, scale);
  const detected: number[] = [];
  for (let group = 0; group < groups; group++) {
    let best = { scale: fallback, value: -Infinity };
    for (const scale of candidates) {
      const scales = Array.from({ length: groups }, (_, g) => (g === group ? scale : fallback));
      const value = await evaluate(scales);
      if (typeof value !== 'number' || Number.isNaN(value)) {
        throw new NumericsError(`detectScales: evaluate gave ${quote(value)} for the scales ${scales}.`);
      }
      const closer = Math.abs(scale - fallback) < Math.abs(best.scale - fallback);
      if (value > best.value || (value === best.value && closer)) best = { scale, value };
    }
    detected.push(best.scale);
  }
  return detected;
}
