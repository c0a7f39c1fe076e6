import type { Tensor2D } from '@tensorflow/tfjs-core';
import { CholeskyDecomposition } from 'ml-matrix';
import { NumericsError } from '../errors.ts';
import { readSymmetric, writeMatrix } from './matrix.ts';

/**
 * The Cholesky factor of a symmetric positive definite matrix `[n, n]`: the lower triangular `l [n, n]` with a positive
 * diagonal and `a = l l^T`.
 *
 * Computed in float64. The result is a constant for differentiation and belongs to the caller.
 *
 * @throws ShapeError unless `a` is square; NumericsError where it holds NaN or infinity, is not symmetric (see `eigh`)
 *   or not positive definite.
 */
export function cholesky(a: Tensor2D): Tensor2D {
  const factor = new CholeskyDecomposition(readSymmetric(a, 'cholesky: a'));
  if (!factor.isPositiveDefinite()) {
    throw new NumericsError(
      'cholesky: a is not positive definite. Add a small multiple of the identity, or use eigh for a semi-definite matrix.',
    );
  }
  return writeMatrix(factor.lowerTriangularMatrix, 'cholesky: l');
}
