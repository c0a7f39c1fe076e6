import { reshape, type Tensor1D, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { ConfigError } from '../errors.ts';
import { readMatrix, readRightSide, writeMatrix } from './matrix.ts';
import { decompose } from './svd.ts';

/**
 * The least-squares solution `x` of `a x = b`: of all `x` that make `|a x - b|` smallest, the one of smallest norm.
 * `a [m, n]` may have any shape and rank; `b` is `[m]` or `[m, k]`, `x` is `[n]` or `[n, k]`.
 *
 * Computed in float64 as `v diag(1 / s) u^T b`. The result is a constant for differentiation and belongs to the caller.
 *
 * @param options.rcond Singular values up to `rcond` times the largest count as zero; default `2^-23 max(m, n)`, as
 *   PyTorch's for float32.
 * @throws ShapeError where shapes do not fit; NumericsError where `a` or `b` holds NaN or infinity.
 */
export function lstsq<T extends Tensor1D | Tensor2D>(a: Tensor2D, b: T, options: { rcond?: number } = {}): T {
  const matrix = readMatrix(a, 'lstsq: a');
  const { rcond = 2 ** -23 * Math.max(matrix.rows, matrix.columns) } = options;
  if (!(rcond >= 0)) throw new ConfigError(`lstsq: rcond is ${rcond}; it may be a number >= 0`);
  const right = readRightSide(b, matrix.rows, 'lstsq: b');
  const { u, s, v } = decompose(matrix);
  const coefficients = u.transpose().mmul(right);
  s.forEach((value, i) => {
    coefficients.mulRow(i, value > rcond * s[0] ? 1 / value : 0);
  });
  const x = v.mmul(coefficients);
  return tidy(() => reshape(writeMatrix(x, 'lstsq: x'), b.rank === 1 ? [x.rows] : [x.rows, x.columns])) as T;
}
