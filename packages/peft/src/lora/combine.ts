import {
  add,
  ConfigError,
  concat,
  matMul,
  mul,
  qr,
  slice,
  svd,
  type Tensor,
  type Tensor2D,
  transpose,
} from '@ashlar/tensor';

/** One adapter's part in a combination: its factors, its scaling and its weight. */
export interface WeightedFactors {
  A: Tensor;
  B: Tensor;
  scaling: number;
  weight: number;
}

/**
 * `'cat'`: A = stack(w_i s_i A_i), B = [B_i]: exactly the weighted sum of the updates; the rank is the sum of the ranks.
 * `'linear'` (equal ranks): sum_i sqrt(|w_i s_i|) of each factor, the sign on A: has cross terms, so is no sum of updates.
 * `'svd'`: the best approximation of rank `svdRank` to the weighted sum of the updates.
 */
export type CombinationType = 'cat' | 'linear' | 'svd';

/**
 * Combines factors `A [r, in]`, `B [out, r]` into one pair with scaling 1. Runs inside a `tidy`.
 * @throws ConfigError for `'linear'` with different ranks.
 */
export function combineFactors(
  parts: readonly WeightedFactors[],
  type: CombinationType,
  svdRank?: number,
): { A: Tensor; B: Tensor } {
  if (type === 'cat')
    return stackFactors(parts.map(({ A, B, scaling, weight }) => ({ A: mul(A, weight * scaling), B })));
  if (type === 'linear') {
    const ranks = new Set(parts.map(({ A }) => A.shape[0]));
    if (ranks.size > 1) {
      throw new ConfigError(
        `combination type 'linear' needs equal ranks, not ${[...ranks].join(', ')}; use 'cat' or 'svd'.`,
      );
    }
    const scaled = parts.map(({ A, B, scaling, weight }) => {
      const factor = weight * scaling;
      const root = Math.sqrt(Math.abs(factor));
      return { A: mul(A, Math.sign(factor) * root), B: mul(B, root) };
    });
    return scaled.reduce((sum, { A, B }) => ({ A: add(sum.A, A), B: add(sum.B, B) }));
  }
  const stacked = combineFactors(parts, 'cat');
  return truncate(stacked, svdRank ?? Math.max(...parts.map(({ A }) => A.shape[0] as number)));
}

/** The factors whose product is the sum of the products. */
export function stackFactors(parts: readonly { A: Tensor; B: Tensor }[]): { A: Tensor; B: Tensor } {
  return {
    A: concat(
      parts.map(({ A }) => A),
      0,
    ),
    B: concat(
      parts.map(({ B }) => B),
      1,
    ),
  };
}

/**
 * The best approximation of rank `svdRank` to `B A` (of less where `B A` has less), by the SVD of the small core between
 * the factors' orthonormal bases.
 */
function truncate({ A, B }: { A: Tensor; B: Tensor }, svdRank: number): { A: Tensor; B: Tensor } {
  if (!Number.isInteger(svdRank) || svdRank < 1)
    throw new ConfigError(`svdRank is ${svdRank}; it must be a positive integer.`);
  const rank = Math.min(svdRank, ...A.shape, B.shape[0] as number);
  const left = qr(B as Tensor2D);
  const right = qr(transpose(A) as Tensor2D);
  const { u, s, vt } = svd(matMul<Tensor2D>(left.r, right.r, false, true));
  return {
    A: matMul(slice(vt, [0, 0], [rank, vt.shape[1]]), right.q, false, true),
    B: mul(matMul(left.q, slice(u, [0, 0], [u.shape[0], rank])), slice(s, [0], [rank])),
  };
}
