import { maximum, mul, rsqrt, square, sum, type Tensor, tidy } from '@tensorflow/tfjs-core';
import { normalizeAxis } from './axis.ts';

/**
 * `x / max(|x|, eps)` with the Euclidean norm along `axis` (`torch.nn.functional.normalize`); finite gradients at zero.
 * @param axis default the last.
 * @param eps default 1e-12.
 */
export function l2Normalize<T extends Tensor>(x: T, axis = -1, eps = 1e-12): T {
  return tidy(() => {
    const squares = sum(square(x), normalizeAxis(axis, x.rank, 'l2Normalize'), true);
    return mul(x, rsqrt(maximum(squares, eps * eps))) as T;
  });
}
