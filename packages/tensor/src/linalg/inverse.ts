import type { Tensor2D } from '@tensorflow/tfjs-core';
import { Matrix } from 'ml-matrix';
import { readSquare, writeMatrix } from './matrix.ts';
import { solveMatrix } from './solve.ts';

/**
 * The inverse of a square matrix `[n, n]`. To apply an inverse to something, prefer `solve`: it is faster and more
 * accurate.
 *
 * Computed in float64. The result is a constant for differentiation and belongs to the caller.
 *
 * @throws ShapeError unless `a` is square; NumericsError where it holds NaN or infinity or is singular.
 */
export function inverse(a: Tensor2D): Tensor2D {
  const matrix = readSquare(a, 'inverse: a');
  return writeMatrix(solveMatrix(matrix, Matrix.eye(matrix.rows), 'inverse'), 'inverse: result');
}
