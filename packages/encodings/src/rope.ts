import {
  ConfigError,
  cast,
  checkChoice,
  checkInteger,
  checkNumber,
  concat,
  cos,
  mul,
  type PositionEncoding,
  reshape,
  rotaryEmbedding,
  ShapeError,
  sin,
  split,
  type Tensor,
  tensor,
  tensor1d,
  tidy,
} from '@ashlar/tensor';
import { checkPositions, lengthOf } from './positions.ts';
import {
  growsWithLength,
  MAX_CHANNELS,
  type RopeFrequencies,
  type RopeScaling,
  ropeFrequencies,
} from './rope-scaling.ts';
import { RotaryTable } from './rotary-table.ts';

/**
 * Which channels make a pair. `'half'`: `i` and `i + n/2` of `n` (Llama, GPT-NeoX). `'interleaved'`: `2i` and `2i + 1`
 * (the paper, GPT-J). Weights trained with one do not work with the other.
 */
export type RotaryLayout = 'half' | 'interleaved';

export interface RopeOptions {
  /** Channels of a head. */
  readonly headDim: number;
  /** Default 10000. */
  readonly base?: number;
  /** Default `'half'`. */
  readonly layout?: RotaryLayout;
  /** The share of each head's channels that is rotated, the first ones; the others pass. Default 1. */
  readonly fraction?: number;
  /**
   * 1 (default) for `[seq]` positions. `n` for `[seq, n]` (axial): the rotated channels are `n` equal parts, each turning
   * with one coordinate.
   */
  readonly axes?: number;
  /** See `RopeScaling`. Default none. */
  readonly scaling?: RopeScaling | null;
  /** The trained length, for scaling rules that need it and do not have it (`max_position_embeddings`). */
  readonly maxPositions?: number | null;
  /** For at most this many positions are cosines and sines kept; others are computed each time. Default 32768. */
  readonly maxCached?: number;
}

/**
 * Rotary position embedding: turns each pair of channels of queries and keys by `position * frequency`, so that their
 * products depend on the distance alone. Frequencies are `base^(-2i / n)` for `n` rotated channels (of an axis).
 *
 * float32 positions may be fractional and are differentiable; int32 ones are read, and their angles are kept.
 *
 * Source: Su et al., "RoFormer" (2021, arXiv 2104.09864); the axial form as in EVA-02 (2023, arXiv 2303.11331).
 */
export class Rope implements PositionEncoding {
  readonly headDim: number;
  /** How many channels of a head are rotated. */
  readonly rotaryDim: number;
  readonly base: number;
  readonly layout: RotaryLayout;
  readonly axes: number;
  readonly scaling: RopeScaling;
  readonly maxPositions: number | undefined;
  readonly #maxCached: number;
  #current: { readonly length: number; readonly frequencies: RopeFrequencies; readonly table: RotaryTable } | undefined;

  /** @throws ConfigError for an option out of range, ShapeError if the channels cannot be paired. */
  constructor(options: RopeOptions) {
    const { headDim, base = 10000, layout = 'half', fraction = 1, axes = 1, maxCached = 32768 } = options;
    const scaling = options.scaling ?? {};
    checkNumber('Rope: headDim', headDim, { integer: true, min: 1, max: MAX_CHANNELS });
    checkNumber('Rope: base', base, { above: 1 });
    checkChoice('Rope', 'layout', layout, ['half', 'interleaved']);
    checkInteger('Rope', 'axes', axes);
    checkInteger('Rope', 'maxCached', maxCached, 0);
    checkNumber('Rope: fraction', fraction, { above: 0, max: 1 });
    if (options.maxPositions != null) checkInteger('Rope', 'maxPositions', options.maxPositions);
    const rotaryDim = Math.floor(headDim * fraction + 1e-6);
    if (rotaryDim < 2 * axes || rotaryDim % (2 * axes) !== 0) {
      throw new ShapeError(
        `Rope: ${rotaryDim} rotated channels (headDim ${headDim}, fraction ${fraction}) are not pairs` +
          `${axes > 1 ? ` for ${axes} axes` : ''}; choose headDim and fraction for a multiple of ${2 * axes}.`,
      );
    }
    if (axes > 1 && growsWithLength(scaling)) {
      throw new ConfigError('Rope: scaling that grows with the length needs axes 1.');
    }
    this.headDim = headDim;
    this.rotaryDim = rotaryDim;
    this.base = base;
    this.layout = layout;
    this.axes = axes;
    this.scaling = scaling;
    this.maxPositions = options.maxPositions ?? undefined;
    this.#maxCached = maxCached;
    this.frequencies();
  }

  /**
   * The frequencies in use, `[rotaryDim / axes / 2]`.
   * @param length of the sequence, which only the dynamic scaling rules look at.
   */
  frequencies(length?: number): RopeFrequencies {
    const { base, scaling, maxPositions } = this;
    return ropeFrequencies({ dim: this.rotaryDim / this.axes, base, scaling, maxPositions, length });
  }

  /** `[batch, heads, q, headDim]` and `[batch, kvHeads, k, headDim]`, both rotated. */
  rotate(q: Tensor, k: Tensor, qPositions: Tensor, kPositions: Tensor): [Tensor, Tensor] {
    const length = growsWithLength(this.scaling) ? lengthOf(kPositions) : undefined;
    return tidy(() => [this.apply(q, qPositions, length), this.apply(k, kPositions, length)]);
  }

  /**
   * Rotates `x`, `[batch, heads, seq, headDim]`, by positions `[seq]` (`[seq, axes]` for several axes).
   * @param length of the sequence, which only the dynamic scaling rules look at. Default the trained length.
   */
  apply(x: Tensor, positions: Tensor, length?: number): Tensor {
    checkPositions('Rope', positions, this.axes);
    const [batch, heads, seq, headDim] = x.shape;
    if (x.rank !== 4 || headDim !== this.headDim || seq !== positions.shape[0]) {
      throw new ShapeError(
        `Rope: needs [batch, heads, ${positions.shape[0]}, ${this.headDim}] for its headDim and ` +
          `${positions.shape[0]} positions, not [${x.shape}].`,
      );
    }
    const rest = headDim - this.rotaryDim;
    return tidy(() => {
      const [turning, passing] = rest === 0 ? [x] : split(x, [this.rotaryDim, rest], 3);
      const rotated = reshape(this.#turn(turning, positions, length), [batch, heads, seq, this.rotaryDim]);
      return passing === undefined ? rotated : concat([rotated, passing], 3);
    });
  }

  /** Rotates every channel of `x`; the axes are folded into the sequence. */
  #turn(x: Tensor, positions: Tensor, length: number | undefined): Tensor {
    const [batch, heads, seq] = x.shape;
    const rows = seq * this.axes;
    const { cosines, sines } = this.#cosSin(positions, [rows, this.rotaryDim / this.axes / 2], length);
    const view = reshape(x, [batch, heads, rows, this.rotaryDim / this.axes]);
    return rotaryEmbedding(view, cosines, sines, { interleaved: this.layout === 'interleaved' });
  }

  #cosSin(positions: Tensor, shape: number[], length: number | undefined): { cosines: Tensor; sines: Tensor } {
    const { frequencies, table } = this.#at(length);
    if (positions.dtype === 'int32') {
      const rows = table.rows(positions.dataSync<'int32'>());
      return { cosines: tensor(rows.cos, shape), sines: tensor(rows.sin, shape) };
    }
    const { inverseFrequencies, attentionFactor } = frequencies;
    const angles = reshape(mul(reshape(cast(positions, 'float32'), [-1, 1]), tensor1d(inverseFrequencies)), shape);
    const scaled = (x: Tensor): Tensor => (attentionFactor === 1 ? x : mul(x, attentionFactor));
    return { cosines: scaled(cos(angles)), sines: scaled(sin(angles)) };
  }

  /** Frequencies and angles for a length; only the last length's are kept. */
  #at(length = 0): { frequencies: RopeFrequencies; table: RotaryTable } {
    if (this.#current?.length !== length) {
      const frequencies = this.frequencies(length);
      const { inverseFrequencies, attentionFactor } = frequencies;
      this.#current = {
        length,
        frequencies,
        table: new RotaryTable(inverseFrequencies, attentionFactor, this.#maxCached),
      };
    }
    return this.#current;
  }
}
