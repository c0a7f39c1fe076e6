import { type Tensor1D, type Tensor2D, tensor1d } from '@tensorflow/tfjs-core';
import { EigenvalueDecomposition } from 'ml-matrix';
import { checkFinite, readSymmetric, writeMatrix } from './matrix.ts';

/**
 * The eigenvalues and eigenvectors of a symmetric matrix `[n, n]`: `a = vectors diag(values) vectors^T`.
 * `values [n]` ascend, as PyTorch's; the columns of `vectors [n, n]` are the orthonormal eigenvectors, whose signs are
 * not fixed (nor, for a repeated eigenvalue, their directions inside its eigenspace).
 *
 * Computed in float64. The results are constants for differentiation and belong to the caller.
 *
 * @throws ShapeError unless `a` is square; NumericsError where it holds NaN or infinity, or where it differs from its
 *   transpose by more than 1e-5 of its largest entry.
 */
export function eigh(a: Tensor2D): { values: Tensor1D; vectors: Tensor2D } {
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(readSymmetric(a, 'eigh: a'), {
    assumeSymmetric: true,
  });
  const values = checkFinite(Float32Array.from(realEigenvalues), 'eigh: values', 1);
  return { values: tensor1d(values), vectors: writeMatrix(eigenvectorMatrix, 'eigh: vectors') };
}
