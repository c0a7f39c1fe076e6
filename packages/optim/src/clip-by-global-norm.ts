import {
  addN,
  checkNumber,
  div,
  type GradientTransformation,
  minimum,
  mul,
  type Scalar,
  scalar,
  sqrt,
  square,
  sum,
  type TensorMap,
  tidy,
} from '@ashlar/tensor';
import { stateless } from './chain.ts';
import { mapTensors } from './tensor-maps.ts';

/** The Euclidean norm of all tensors taken as one vector: `sqrt(sum_i ||x_i||^2)`. The caller disposes of it. */
export function globalNorm(tensors: TensorMap): Scalar {
  return tidy(() => {
    if (tensors.size === 0) return scalar(0);
    return sqrt(addN([...tensors.values()].map((tensor) => tidy(() => sum(square(tensor)))))) as Scalar;
  });
}

/**
 * Scales all gradients by `min(1, maxNorm / globalNorm(gradients))`, so that their global norm is at most `maxNorm`.
 *
 * Source: Pascanu, Mikolov & Bengio 2012, arXiv:1211.5063.
 * @throws ConfigError unless `maxNorm > 0`.
 */
export function clipByGlobalNorm(maxNorm: number): GradientTransformation<Record<string, never>> {
  checkNumber('maxNorm', maxNorm, { above: 0 });
  return stateless((gradients) => {
    const factor = minimum(div(maxNorm, globalNorm(gradients)), 1);
    return mapTensors(gradients, (g) => mul(g, factor));
  });
}
