import { type Tensor1D, type Tensor2D, tensor1d } from '@tensorflow/tfjs-core';
import { type Matrix, SingularValueDecomposition } from 'ml-matrix';
import { checkFinite, readMatrix, writeMatrix } from './matrix.ts';

/** A (possibly truncated) singular value decomposition: `a = u diag(s) vt`. */
export type Svd = {
  /** Left singular vectors in the columns, `[m, k]`. */
  u: Tensor2D;
  /** Singular values, descending, `[k]`. */
  s: Tensor1D;
  /** Right singular vectors in the rows, `[k, n]`. */
  vt: Tensor2D;
};

/**
 * The thin singular value decomposition `a = u diag(s) vt` of a matrix `[m, n]`, `k = min(m, n)`; `u` has orthonormal
 * columns, `vt` orthonormal rows, also where singular values are zero or repeated.
 *
 * Signs: in every column of `u` the entry of largest magnitude (the first of equal ones) is positive.
 *
 * Computed in float64, in O(m n k) (about 3 s for 512 x 512). The results are constants for differentiation and belong
 * to the caller.
 *
 * @throws ShapeError unless `a` is 2-D and not empty; NumericsError where it holds NaN or infinity.
 */
export function svd(a: Tensor2D): Svd {
  return writeSvd(decompose(readMatrix(a, 'svd: a')), 'svd');
}

/** The factors of an SVD in float64: `u [m, k]`, `s`, `v [n, k]`. */
export interface SvdFactors {
  u: Matrix;
  s: number[];
  v: Matrix;
}

/** The thin SVD in float64; the matrix must be finite, for the iteration does not end on NaN. */
export function decompose(matrix: Matrix): SvdFactors {
  // Without `autoTranspose` ml-matrix gives wrong factors for m < n.
  const { leftSingularVectors, diagonal, rightSingularVectors } = new SingularValueDecomposition(matrix, {
    autoTranspose: true,
  });
  return { u: leftSingularVectors, s: diagonal, v: rightSingularVectors };
}

/** The factors as float32 tensors, with the sign convention of `svd`. */
export function writeSvd({ u, s, v }: SvdFactors, where: string): Svd {
  for (let j = 0; j < s.length; j++) {
    // Compared as float32, so that the choice can be seen in the result.
    const column = Float32Array.from(u.getColumn(j));
    const largest = column.reduce((best, x, i) => (Math.abs(x) > Math.abs(column[best]) ? i : best), 0);
    if (column[largest] < 0) {
      u.mulColumn(j, -1);
      v.mulColumn(j, -1);
    }
  }
  return {
    u: writeMatrix(u, `${where}: u`),
    s: tensor1d(checkFinite(Float32Array.from(s), `${where}: s`, 1)),
    vt: writeMatrix(v.transpose(), `${where}: vt`),
  };
}
