import { reshape, type Tensor1D, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { LuDecomposition, type Matrix } from 'ml-matrix';
import { NumericsError } from '../errors.ts';
import { readRightSide, readSquare, writeMatrix } from './matrix.ts';

/**
 * The solution `x` of `a x = b` for a square matrix `a [n, n]` and a right side `b`, `[n]` or `[n, k]`; `x` has the
 * shape of `b`.
 *
 * Computed in float64 by LU decomposition with partial pivoting, after scaling each equation to a largest coefficient
 * of one. The result is a constant for differentiation and belongs to the caller.
 *
 * @throws ShapeError where shapes do not fit; NumericsError where `a` or `b` holds NaN or infinity or `a` is singular to
 *   float64 precision.
 */
export function solve<T extends Tensor1D | Tensor2D>(a: Tensor2D, b: T): T {
  const matrix = readSquare(a, 'solve: a');
  const x = solveMatrix(matrix, readRightSide(b, matrix.rows, 'solve: b'), 'solve');
  return tidy(() => reshape(writeMatrix(x, 'solve: x'), b.shape)) as T;
}

/** The solution of `a x = b` in float64; both matrices are overwritten. */
export function solveMatrix(a: Matrix, b: Matrix, where: string): Matrix {
  for (let i = 0; i < a.rows; i++) {
    const largest = Math.max(...a.getRow(i).map(Math.abs));
    if (largest === 0) throw singular(where);
    a.mulRow(i, 1 / largest);
    b.mulRow(i, 1 / largest);
  }
  const factors = new LuDecomposition(a);
  const pivots = factors.upperTriangularMatrix.diagonal().map(Math.abs);
  if (Math.min(...pivots) <= a.rows * Number.EPSILON * Math.max(...pivots)) throw singular(where);
  return factors.solve(b);
}

function singular(where: string): NumericsError {
  return new NumericsError(
    `${where}: a is singular: some row is a combination of the others. Add a small multiple of the identity, or use lstsq.`,
  );
}
