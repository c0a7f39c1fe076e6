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

export interface RegionalRopeOptions {
  /** Channels of a head, an even number. */
  readonly headDim: number;
  /** Default 10000. */
  readonly base?: number;
  /** Default `'half'`. */
  readonly layout?: RotaryLayout;
}

/** The place of a token at `position`, as pair `pair` of head `head` sees it. */
export type Place = (position: number, pair: number, head: number) => number;

/** Where queries and keys stand for each other where they are of this region. */
export interface Region {
  readonly query: Place;
  readonly key: Place;
  /** Whether heads differ in their places. Default false. */
  readonly byHead?: boolean;
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

  /** @throws ConfigError for an option out of range, ShapeError if the channels cannot be paired. */
  constructor({ headDim, base = 10000, layout = 'half' }: RegionalRopeOptions) {
    const owner = new.target.name;
    checkInteger(owner, 'headDim', headDim);
    checkNumber(`${owner}: base`, base, { above: 1 });
    checkChoice(owner, 'layout', layout, ['half', 'interleaved']);
    if (headDim % 2 !== 0) throw new ShapeError(`${owner}: headDim is ${headDim}; channels come in pairs.`);
    this.headDim = headDim;
    this.base = base;
    this.layout = layout;
    this.inverseFrequencies = ropeFrequencies({ dim: headDim, base }).inverseFrequencies;
  }

  /** The regions, nearest first. */
  protected abstract regions(context: EncodingContext): readonly Region[];

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
    const scales = Float32Array.from(query, (position) => this.queryScale(position) / Math.sqrt(this.headDim));
    return tidy(() => {
      const scaled = mul(q, tensor(scales, [query.length, 1]));
      return this.regions(context).reduceRight((far: Tensor | undefined, { mask, byHead = false, ...region }) => {
        const near = matMul(
          this.#rotate(scaled, query, region.query, byHead),
          this.#rotate(k, key, region.key, byHead),
          false,
          true,
        );
        return far === undefined || mask === undefined ? near : where(mask(query, key), near, far);
      }, undefined) as Tensor;
    });
  }

  #rotate(x: Tensor, positions: ArrayLike<number>, place: Place, byHead: boolean): Tensor {
    const [, heads, seq] = x.shape as [number, number, number];
    const pairs = this.headDim / 2;
    const tables = byHead ? heads : 1;
    const [cosines, sines] = [0, 1].map(() => new Float32Array(tables * seq * pairs));
    for (let head = 0, to = 0; head < tables; head++) {
      for (let i = 0; i < seq; i++) {
        for (let pair = 0; pair < pairs; pair++, to++) {
          const angle = Math.fround(place(positions[i], pair, head) * this.inverseFrequencies[pair]);
          cosines[to] = Math.cos(angle);
          sines[to] = Math.sin(angle);
        }
      }
    }
    const [c, s] = [cosines, sines].map((table) => tensor(table, [tables * seq, pairs]));
    const view = reshape(x, [-1, tables * seq, this.headDim]);
    return reshape(rotaryEmbedding(view, c, s, { interleaved: this.layout === 'interleaved' }), x.shape);
  }
}

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
