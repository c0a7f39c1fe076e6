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

/**
 * The thin QR decomposition of a tall matrix in float64, the diagonal of `r` positive, at the speed of matrix products:
 * rounds of Cholesky QR, `a^T a = r^T r`, `q = a r^-1`. After one the columns of `q` are orthonormal to about 2e-5, after
 * two to rounding. Reflections where a column lies within about 3e-6 of the span of those before it.
 *
 * Source: Yamamoto, Nakatsukasa, Yanagisawa and Fukaya, "Roundoff error analysis of the CholeskyQR2 algorithm" (2015).
 */
export function choleskyQr(matrix: Matrix, rounds: 1 | 2): { q: Matrix; r: Matrix } {
  const { rows, columns } = matrix;
  const q = Float64Array.from(matrix.to1DArray());
  let product: Matrix | undefined;
  for (let round = 0; round < rounds; round++) {
    const factor = gram(q, rows, columns);
    if (!choleskyInPlace(factor, columns)) return factorize(matrix);
    divideByTriangle(q, factor, rows, columns);
    const r = Matrix.from1DArray(columns, columns, factor);
    product = product === undefined ? r : r.mmul(product);
  }
  return { q: Matrix.from1DArray(rows, columns, q), r: product as Matrix };
}

/** The upper triangle of `a^T a`. Four rows at a time, or the sums would spend their time in memory. */
function gram(a: Float64Array, rows: number, columns: number): Float64Array {
  const sums = new Float64Array(columns * columns);
  const none = new Float64Array(columns);
  const rowOf = (row: number): Float64Array => (row < rows ? a.subarray(row * columns, (row + 1) * columns) : none);
  for (let row = 0; row < rows; row += 4) {
    const [p, q, r, s] = [rowOf(row), rowOf(row + 1), rowOf(row + 2), rowOf(row + 3)];
    for (let i = 0; i < columns; i++) {
      const [pi, qi, ri, si] = [p[i], q[i], r[i], s[i]];
      const sum = sums.subarray(i * columns, (i + 1) * columns);
      for (let j = i; j < columns; j++) sum[j] += pi * p[j] + qi * q[j] + ri * r[j] + si * s[j];
    }
  }
  return sums;
}

/** The factor `r` of `g = r^T r` in place of the upper triangle of `g`; false where `g` is close to singular. */
function choleskyInPlace(g: Float64Array, size: number): boolean {
  const rows = Array.from({ length: size }, (_, i) => g.subarray(i * size, (i + 1) * size));
  const lengths = rows.map((row, i) => row[i]);
  for (const [i, row] of rows.entries()) {
    if (!(row[i] > 1e-11 * lengths[i])) return false;
    const root = Math.sqrt(row[i]);
    for (let j = i; j < size; j++) row[j] /= root;
    for (let k = i + 1; k < size; k++) {
      const [below, factor] = [rows[k], row[k]];
      for (let j = k; j < size; j++) below[j] -= factor * row[j];
    }
  }
  return true;
}

/** `a r^-1` in place of `a`, two rows at a time. */
function divideByTriangle(a: Float64Array, r: Float64Array, rows: number, columns: number): void {
  const spare = new Float64Array(columns);
  for (let row = 0; row < rows; row += 2) {
    const x = a.subarray(row * columns, (row + 1) * columns);
    const y = row + 1 < rows ? a.subarray((row + 1) * columns, (row + 2) * columns) : spare;
    for (let i = 0; i < columns; i++) {
      const line = r.subarray(i * columns, (i + 1) * columns);
      x[i] /= line[i];
      y[i] /= line[i];
      const [xi, yi] = [x[i], y[i]];
      for (let j = i + 1; j < columns; j++) {
        x[j] -= xi * line[j];
        y[j] -= yi * line[j];
      }
    }
  }
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
