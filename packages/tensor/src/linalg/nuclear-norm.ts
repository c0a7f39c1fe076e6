import { type Scalar, scalar, type Tensor2D } from '@tensorflow/tfjs-core';
import { checkFinite, readMatrix } from './matrix.ts';
import { decompose } from './svd.ts';

/**
 * The nuclear norm of a matrix `[m, n]`: the sum of its singular values.
 *
 * Computed in float64. The result is a constant for differentiation and belongs to the caller.
 *
 * @throws ShapeError unless `a` is 2-D and not empty; NumericsError where it holds NaN or infinity.
 */
export function nuclearNorm(a: Tensor2D): Scalar {
  const { s } = decompose(readMatrix(a, 'nuclearNorm: a'));
  const norm = Math.fround(s.reduce((sum, value) => sum + value, 0));
  checkFinite([norm], 'nuclearNorm: result', 1);
  return scalar(norm);
}
