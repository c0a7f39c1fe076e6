import type { Tensor2D } from '@tensorflow/tfjs-core';
import { Matrix, QrDecomposition } from 'ml-matrix';
import { readMatrix, writeMatrix } from './matrix.ts';

/**
 * The thin QR decomposition `a = q r` of a matrix `[m, n]`: `q [m, k]` with orthonormal columns, also where `a` has not
 * full rank, and `r [k, n]` upper triangular, `k = min(m, n)`.
 *
 * Signs: the diagonal of `r` is non-negative, which makes the factors of a full-rank matrix unique. LAPACK, and so
 * PyTorch and NumPy, leave the signs as the reflections give them: compare with those up to the sign of each column of
 * `q` and row of `r`.
 *
 * Computed in float64 by Householder reflections. The results are constants for differentiation and belong to the
 * caller.
 *
 * @throws ShapeError unless `a` is 2-D and not empty; NumericsError where it holds NaN or infinity.
 */
export function qr(a: Tensor2D): { q: Tensor2D; r: Tensor2D } {
  const { q, r } = factorize(readMatrix(a, 'qr: a'));
  return { q: writeMatrix(q, 'qr: q'), r: writeMatrix(r, 'qr: r') };
}

/** The factor `q` of `qr`, in float64. */
export function orthonormalBasis(matrix: Matrix): Matrix {
  return factorize(matrix).q;
}

function factorize(matrix: Matrix): { q: Matrix; r: Matrix } {
  // ml-matrix cannot take m < n; the first m columns determine q, which gives the rest of r.
  const { rows, columns } = matrix;
  const k = Math.min(rows, columns);
  const factors = new QrDecomposition(matrix.subMatrix(0, rows - 1, 0, k - 1));
  const q = factors.orthogonalMatrix;
  const r = Matrix.zeros(k, columns).setSubMatrix(factors.upperTriangularMatrix, 0, 0);
  if (columns > k) r.setSubMatrix(q.transpose().mmul(matrix.subMatrix(0, rows - 1, k, columns - 1)), 0, k);
  for (let i = 0; i < k; i++) {
    if (r.get(i, i) < 0) {
      q.mulColumn(i, -1);
      for (let j = i; j < columns; j++) r.set(i, j, -r.get(i, j));
    }
  }
  return { q, r };
}
