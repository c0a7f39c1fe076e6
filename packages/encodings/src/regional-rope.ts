import {
  checkChoice,
  checkInteger,
  checkNumber,
  type EncodingContext,
  matMul,
  mul,
  type PositionEncoding,
  reshape,
  rotaryEmbedding,
  ShapeError,
  type Tensor,
  tensor,
  tidy,
  where,
} from '@ashlar/tensor';
import { checkPositions, wholePositions } from './positions.ts';
import type { RotaryLayout } from './rope.ts';
import { ropeFrequencies } from './rope-scaling.ts';
import { type CosSin, RotaryTable } from './rotary-table.ts';

export interface RegionalRopeOptions {
  /** Channels of a head, an even number. */
  readonly headDim: number;
  /** Default 10000. */
  readonly base?: number;
  /** Default `'half'`. */
  readonly layout?: RotaryLayout;
}

/** The place of a token at `position`, as a pair of channels of this `scale` sees it. */
export type Place = (position: number, scale: number) => number;

/** Where queries and keys stand for each other where they are of this region. */
export interface Region {
  readonly query: Place;
  readonly key: Place;
  /** The scale of each pair, `[headDim / 2]` for each head or once for all. Default 1. */
  readonly scales?: readonly (readonly number[])[];
  /** Which pairs of queries and keys are of it, bool `[q, k]`; the last region takes what is left. */
  mask?(query: ArrayLike<number>, key: ArrayLike<number>): Tensor;
}

/**
 * Rotary attention whose relative places depend on the region that a query and a key are in: near or far from each other,
 * in the same chunk or not. One softmax over all regions. Each region costs a product of queries and keys.
 */
export abstract class RegionalRope implements PositionEncoding {
  readonly headDim: number;
  readonly base: number;
  readonly layout: RotaryLayout;
  /** `base^(-2i / headDim)`, `[headDim / 2]`. */
  readonly inverseFrequencies: Float32Array;
  readonly #table: RotaryTable;

  /** @throws ConfigError for an option out of range, ShapeError if the channels cannot be paired. */
  constructor(options: RegionalRopeOptions) {
    const owner = new.target.name;
    const { headDim, base = 10000, layout = 'half' } = options ?? {};
    checkInteger(owner, 'headDim', headDim);
    checkNumber(`${owner}: base`, base, { above: 1 });
    checkChoice(owner, 'layout', layout, ['half', 'interleaved']);
    if (headDim % 2 !== 0) throw new ShapeError(`${owner}: headDim is ${headDim}; channels come in pairs.`);
    this.headDim = headDim;
    this.base = base;
    this.layout = layout;
    this.inverseFrequencies = ropeFrequencies({ dim: headDim, base }).inverseFrequencies;
    this.#table = new RotaryTable(this.inverseFrequencies, 1, MOST_KEPT);
  }

  /** The regions, nearest first. @param heads of the queries. */
  protected abstract regions(context: EncodingContext, heads: number): readonly Region[];

  /** What a query at `position` is multiplied by. */
  protected queryScale(_position: number): number {
    return 1;
  }

  /** `[batch, heads, q, headDim]` and `[batch, heads, k, headDim]` to `[batch, heads, q, k]`, by whole positions. */
  scores(q: Tensor, k: Tensor, qPositions: Tensor, kPositions: Tensor, context: EncodingContext): Tensor {
    const owner = this.constructor.name;
    for (const [x, positions] of [
      [q, qPositions],
      [k, kPositions],
    ]) {
      checkPositions(owner, positions);
      if (x.rank !== 4 || x.shape[3] !== this.headDim || x.shape[2] !== positions.shape[0]) {
        throw new ShapeError(
          `${owner}: needs [batch, heads, ${positions.shape[0]}, ${this.headDim}] for its headDim and ` +
            `${positions.shape[0]} positions, not [${x.shape}].`,
        );
      }
    }
    const [query, key] = [wholePositions(owner, qPositions), wholePositions(owner, kPositions)];
    const factors = Float32Array.from(query, (position) => this.queryScale(position) / Math.sqrt(this.headDim));
    return tidy(() => {
      const scaled = mul(q, tensor(factors, [query.length, 1]));
      return this.regions(context, q.shape[1] as number).reduceRight(
        (far: Tensor | undefined, { mask, scales, ...region }) => {
          const near = matMul(
            this.#rotate(scaled, query, region.query, scales),
            this.#rotate(k, key, region.key, scales),
            false,
            true,
          );
          return far === undefined || mask === undefined ? near : where(mask(query, key), near, far);
        },
        undefined,
      ) as Tensor;
    });
  }

  #rotate(x: Tensor, positions: ArrayLike<number>, place: Place, scales: Region['scales']): Tensor {
    const at = (scale: number): CosSin => this.#table.rows(Array.from(positions, (position) => place(position, scale)));
    const { cos, sin } = scales === undefined ? at(1) : this.#scaled(scales, at, positions.length);
    const rows = (scales?.length ?? 1) * positions.length;
    const [cosines, sines] = [cos, sin].map((table) => tensor(table, [rows, this.headDim / 2]));
    const view = reshape(x, [-1, rows, this.headDim]);
    return reshape(rotaryEmbedding(view, cosines, sines, { interleaved: this.layout === 'interleaved' }), x.shape);
  }

  /** Rows of every head, `[scales, seq]`, each pair's columns from the table of its scale. */
  #scaled(scales: readonly (readonly number[])[], at: (scale: number) => CosSin, seq: number): CosSin {
    const pairs = this.headDim / 2;
    const tables = new Map([...new Set(scales.flat())].map((scale) => [scale, at(scale)]));
    const [cos, sin] = [0, 1].map(() => new Float32Array(scales.length * seq * pairs));
    for (const [head, own] of scales.entries()) {
      for (const [pair, scale] of own.entries()) {
        const table = tables.get(scale) as CosSin;
        for (let i = 0; i < seq; i++) {
          cos[(head * seq + i) * pairs + pair] = table.cos[i * pairs + pair];
          sin[(head * seq + i) * pairs + pair] = table.sin[i * pairs + pair];
        }
      }
    }
    return { cos, sin };
  }
}

/** For at most this many places are cosines and sines kept, as `Rope` does. */
const MOST_KEPT = 32768;

/** A token's own place. */
export const truePlace: Place = (position) => position;

/** Queries and keys that are less than `window` apart, bool `[q, k]`. */
export function isNear(query: ArrayLike<number>, key: ArrayLike<number>, window: number): Tensor {
  return maskOf(query, key, (p, t) => p - t < window);
}

/** bool `[q, k]`. */
export function maskOf(
  query: ArrayLike<number>,
  key: ArrayLike<number>,
  holds: (query: number, key: number) => boolean,
): Tensor {
  const mask = new Uint8Array(query.length * key.length);
  for (let i = 0, to = 0; i < query.length; i++) {
    for (let j = 0; j < key.length; j++, to++) mask[to] = holds(query[i], key[j]) ? 1 : 0;
  }
  return tensor(mask, [query.length, key.length], 'bool');
}
