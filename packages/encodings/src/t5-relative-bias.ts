import {
  ConfigError,
  checkInteger,
  checkNumber,
  checkOptions,
  checkRng,
  gather,
  gatherRows,
  Module,
  oncePerPass,
  Parameter,
  type PositionEncoding,
  type Rng,
  reshape,
  slice,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { checkPositions, wholePositions } from './positions.ts';

export interface T5BucketOptions {
  /** Default 32. */
  readonly buckets?: number;
  /** Distances from here on share the last bucket. Default 128. */
  readonly maxDistance?: number;
  /** Whether keys after the query have buckets of their own (half of all), as in encoders. Default false. */
  readonly bidirectional?: boolean;
}

/**
 * The bucket of a distance `key - query`. With `n` the distance back and `B` the buckets on one side it is `n` below
 * `B / 2`, then `min(B - 1, B/2 + floor(ln(n / (B/2)) / ln(maxDistance / (B/2)) (B - B/2)))`. Causally, later keys fall
 * into bucket 0.
 *
 * The logarithm and what follows are rounded to float32 as in the original code: at powers the floor depends on it.
 * @throws ConfigError unless `distance` is whole, or for an option out of range.
 */
export function t5Bucket(distance: number, options: T5BucketOptions = {}): number {
  checkNumber('t5Bucket: distance', distance, { integer: true });
  return bucketOf(distance, checkBuckets('t5Bucket', options));
}

/** The options with their defaults. @throws ConfigError for one out of range. */
function checkBuckets(owner: string, options: T5BucketOptions): Required<T5BucketOptions> {
  const { buckets = 32, maxDistance = 128, bidirectional = false } = checkOptions(owner, options);
  checkInteger(owner, 'buckets', buckets, bidirectional ? 4 : 2);
  const side = bidirectional ? Math.floor(buckets / 2) : buckets;
  checkNumber(`${owner}: maxDistance`, maxDistance, { above: Math.floor(side / 2) });
  return { buckets, maxDistance, bidirectional };
}

function bucketOf(distance: number, { buckets, maxDistance, bidirectional }: Required<T5BucketOptions>): number {
  const side = bidirectional ? Math.floor(buckets / 2) : buckets;
  const offset = bidirectional && distance > 0 ? side : 0;
  const n = bidirectional ? Math.abs(distance) : Math.max(-distance, 0);
  const exact = Math.floor(side / 2);
  if (n < exact) return offset + n;
  const log = Math.fround(Math.log(Math.fround(n / exact)));
  const ratio = Math.fround(log / Math.fround(Math.log(maxDistance / exact)));
  return offset + Math.min(side - 1, exact + Math.floor(Math.fround(ratio * (side - exact))));
}

/**
 * T5's relative position bias: adds `table[bucket(key - query), head]` to the logits. One table serves all layers.
 *
 * Source: Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text Transformer" (JMLR 2020,
 * arXiv 1910.10683).
 */
export class T5RelativeBias extends Module<[Tensor, Tensor]> implements PositionEncoding {
  /** `weight: [buckets, heads]`, under the name that T5 checkpoints have. */
  readonly relative_attention_bias: { readonly weight: Parameter };
  readonly buckets: number;
  readonly maxDistance: number;
  readonly bidirectional: boolean;

  /** @param options.rng draws the initial table from a normal distribution of standard deviation `std` (default 0.02). */
  constructor(options: T5BucketOptions & { readonly heads: number; readonly rng: Rng; readonly std?: number }) {
    super();
    const { buckets, maxDistance, bidirectional } = checkBuckets('T5RelativeBias', options);
    if (bidirectional && buckets % 2 !== 0) {
      throw new ConfigError(`T5RelativeBias: buckets is ${buckets}; it must be even, half of them for each direction.`);
    }
    const { heads, rng, std = 0.02 } = options;
    checkInteger('T5RelativeBias', 'heads', heads);
    checkNumber('T5RelativeBias: std', std, { min: 0 });
    checkRng('T5RelativeBias', rng);
    this.buckets = buckets;
    this.maxDistance = maxDistance;
    this.bidirectional = bidirectional;
    const shape: [number, number] = [buckets, heads];
    this.relative_attention_bias = { weight: new Parameter({ shape, init: () => rng.normal(shape, { std }) }) };
  }

  /** `[q]` and `[k]` to `[heads, q, k]`. */
  forward(qPositions: Tensor, kPositions: Tensor): Tensor {
    return this.bias(qPositions, kPositions);
  }

  /**
   * `[q]` and `[k]` to `[heads, q, k]`.
   * @throws ConfigError if a position is fractional.
   */
  bias(qPositions: Tensor, kPositions: Tensor): Tensor {
    checkPositions('T5RelativeBias', qPositions);
    checkPositions('T5RelativeBias', kPositions);
    return oncePerPass(this, [qPositions, kPositions], () => this.#bias(qPositions, kPositions));
  }

  #bias(qPositions: Tensor, kPositions: Tensor): Tensor {
    const queries = wholePositions('T5RelativeBias', qPositions);
    const keys = wholePositions('T5RelativeBias', kPositions);
    const consecutive = [queries, keys].every((positions) => isConsecutive(positions));
    if (consecutive && queries.length * keys.length >= WORTH_WINDOWS) {
      return this.#fromWindows(keys[0] - queries[queries.length - 1], queries.length, keys.length);
    }
    const [[firstQuery, lastQuery], [firstKey, lastKey]] = [extent(queries), extent(keys)];
    const range = [firstKey - lastQuery, lastKey - firstQuery] as const;
    return tidy(() => this.#lookUp(queries.length, keys.length, range, (i, j) => keys[j] - queries[i]));
  }

  /** `[heads, rows, columns]`, of the distances, which are from `least` to `greatest`. */
  #lookUp(
    rows: number,
    columns: number,
    [least, greatest]: readonly [number, number],
    distance: (row: number, column: number) => number,
  ): Tensor {
    const ids = new Int32Array(rows * columns);
    // From `maxDistance` on either side the bucket stays the same.
    const limit = Math.ceil(this.maxDistance);
    const [from, to] = [Math.max(-limit, Math.min(limit, least)), Math.max(-limit, Math.min(limit, greatest))];
    // Of distances close together each has its bucket computed once; few that are far apart are computed one by one.
    const close = to - from < ids.length;
    const known = Int32Array.from({ length: close ? to - from + 1 : 0 }, (_, i) => bucketOf(from + i, this));
    for (let i = 0, next = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        const near = Math.max(from, Math.min(to, distance(i, j)));
        ids[next++] = close ? known[near - from] : bucketOf(near, this);
      }
    }
    const table = this.relative_attention_bias.weight.value;
    return transpose(gatherRows(table, tensor2d(ids, [rows, columns], 'int32')), [2, 0, 1]);
  }

  /**
   * As `#lookUp`, for neighbouring queries and keys: a row is the one before, moved by one, so rows are put together from
   * windows of the biases of all distances, which copies many numbers at once.
   * @param least of the distances: of the first key from the last query.
   */
  #fromWindows(least: number, queries: number, keys: number): Tensor {
    const blocks = Math.ceil(keys / WINDOW);
    return tidy(() => {
      const starts = queries + (blocks - 1) * WINDOW;
      const range = [least, least + starts + WINDOW - 2] as const;
      const windows = this.#lookUp(starts, WINDOW, range, (start, i) => least + start + i);
      const rowStarts = Int32Array.from({ length: queries * blocks }, (_, i) => {
        const query = Math.floor(i / blocks);
        return queries - 1 - query + WINDOW * (i % blocks);
      });
      const heads = windows.shape[0];
      const rows = reshape(gather(windows, tensor1d(rowStarts, 'int32'), 1), [heads, queries, blocks * WINDOW]);
      return blocks * WINDOW === keys ? rows : slice(rows, [0, 0, 0], [-1, -1, keys]);
    });
  }
}

/** Distances in a window. */
const WINDOW = 64;
/** Biases from which windows take less time. */
const WORTH_WINDOWS = 2 ** 14;

function isConsecutive(positions: ArrayLike<number>): boolean {
  for (let i = 1; i < positions.length; i++) if (positions[i] !== positions[0] + i) return false;
  return true;
}

/** The smallest and the largest. */
function extent(positions: ArrayLike<number>): [number, number] {
  let [least, greatest] = [positions[0], positions[0]];
  for (let i = 1; i < positions.length; i++) {
    least = Math.min(least, positions[i]);
    greatest = Math.max(greatest, positions[i]);
  }
  return [least, greatest];
}
