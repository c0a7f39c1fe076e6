import {
  abs,
  ConfigError,
  cast,
  checkInteger,
  checkOptions,
  mul,
  neg,
  type PositionEncoding,
  quote,
  reshape,
  sub,
  type Tensor,
  tensor,
  tidy,
} from '@ashlar/tensor';
import { checkPositions, MOST } from './positions.ts';

/**
 * One slope for each head. With `P` the largest power of two not above `heads`: `2^(-8 i / P)`, `i = 1 .. P`, and then
 * `2^(-4 i / P)` for `i = 1, 3, 5 …` until there are `heads`.
 */
export function alibiSlopes(heads: number): number[] {
  checkInteger('alibiSlopes', 'heads', heads, 1, MOST);
  const power = 2 ** Math.floor(Math.log2(heads));
  return Array.from({ length: heads }, (_, i) =>
    i < power ? 2 ** ((-8 * (i + 1)) / power) : 2 ** ((-4 * (2 * (i - power) + 1)) / power),
  );
}

/**
 * Attention with linear biases: adds `slope_h (key - query)` to the logits, so that attention decays with distance.
 * In a causal model this equals `slope_h key` up to a number for each row, which softmax ignores.
 *
 * Source: Press, Smith and Lewis, "Train short, test long" (ICLR 2022, arXiv 2108.12409).
 */
export class Alibi implements PositionEncoding {
  readonly slopes: readonly number[];
  readonly symmetric: boolean;

  /**
   * @param options.slopes in the order of the heads; default `alibiSlopes(heads)`.
   * @param options.symmetric `-slope_h |key - query|`, for attention to both sides. Default false.
   */
  constructor(options: { readonly heads: number; readonly slopes?: readonly number[]; readonly symmetric?: boolean }) {
    const { heads, symmetric = false } = checkOptions('Alibi', options);
    checkInteger('Alibi', 'heads', heads, 1, MOST);
    const { slopes = alibiSlopes(heads) } = options;
    if (!Array.isArray(slopes) || slopes.length !== heads || !slopes.every(Number.isFinite)) {
      throw new ConfigError(`Alibi: slopes must be ${heads} finite numbers, one for each head, not ${quote(slopes)}.`);
    }
    this.slopes = [...slopes];
    this.symmetric = symmetric;
  }

  /** `[q]` and `[k]` to `[heads, q, k]`. */
  bias(qPositions: Tensor, kPositions: Tensor): Tensor {
    checkPositions('Alibi', qPositions);
    checkPositions('Alibi', kPositions);
    return tidy(() => {
      const query = reshape(cast(qPositions, 'float32'), [1, -1, 1]);
      const distance = sub(reshape(cast(kPositions, 'float32'), [1, 1, -1]), query);
      const slopes = tensor([...this.slopes], [this.slopes.length, 1, 1]);
      return mul(slopes, this.symmetric ? neg(abs(distance)) : distance);
    });
  }
}
