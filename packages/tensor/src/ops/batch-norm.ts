import { onesLike, type Tensor, type Tensor1D, batchNorm as tfBatchNorm, tidy, zerosLike } from '@tensorflow/tfjs-core';

/**
 * `scale (x - mean) / sqrt(variance + varianceEpsilon) + offset`; the statistics are `[channels]` or of `x`'s shape.
 * Without `offset` or `scale` tfjs's own cannot be differentiated.
 * @param varianceEpsilon default 1e-3.
 */
export function batchNorm<T extends Tensor>(
  x: T,
  mean: Tensor,
  variance: Tensor,
  offset?: Tensor,
  scale?: Tensor,
  varianceEpsilon?: number,
): T {
  return tidy(() =>
    tfBatchNorm(
      x as Tensor,
      mean as Tensor1D,
      variance as Tensor1D,
      (offset ?? zerosLike(mean)) as Tensor1D,
      (scale ?? onesLike(variance)) as Tensor1D,
      varianceEpsilon,
    ),
  ) as T;
}
