import { div, matMul, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { Matrix } from 'ml-matrix';
import { ConfigError } from '../errors.ts';
import type { Rng } from '../rng.ts';
import { checkFinite, checkMatrix, readMatrix, writeMatrix } from './matrix.ts';
import { choleskyQr } from './qr.ts';
import { decompose, type Svd, writeSvd } from './svd.ts';

/**
 * The leading `rank` singular values and vectors of a matrix `[m, n]`, approximately: `u [m, rank]`, `s [rank]`,
 * `vt [rank, n]`, ordered and signed as by `svd`.
 *
 * A random subspace of `rank + oversampling` dimensions is turned towards the leading singular vectors by `iterations`
 * rounds of orthonormalised power iteration. The error falls with the decay of the spectrum behind `rank`, as
 * `(s[rank + oversampling] / s[rank])^(2 iterations + 1)`. Where `rank + oversampling >= min(m, n)` nothing is left out.
 *
 * The products with `a` run in float32 on the backend, everything else in float64: singular values are good to about
 * 1e-6 of the largest one. The results are constants for differentiation and belong to the caller.
 *
 * Source: Halko, Martinsson and Tropp, "Finding structure with randomness" (2011, arXiv 0909.4061), algorithm 4.4.
 *
 * @param options.oversampling Extra dimensions, default 8.
 * @param options.iterations Rounds of power iteration, default 4.
 * @throws ShapeError unless `a` is 2-D and not empty; NumericsError where it holds NaN or infinity; ConfigError where
 *   `rank` is not in `1 ... min(m, n)`.
 */
export function randomizedSvd(
  a: Tensor2D,
  rank: number,
  options: { oversampling?: number; iterations?: number; rng: Rng },
): Svd {
  checkMatrix(a, 'randomizedSvd: a');
  const { oversampling = 8, iterations = 4, rng } = options;
  const largestRank = Math.min(...a.shape);
  checkInteger('rank', rank, 1, largestRank);
  checkInteger('oversampling', oversampling, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('iterations', iterations, 0, 1000);
  const size = Math.min(rank + oversampling, largestRank);
  return tidy(() => {
    const scale = powerOfTwoScale(a);
    const scaled: Tensor2D = div(a, scale);
    const sample = Matrix.from1DArray(a.shape[1], size, rng.normalArray(a.shape[1] * size));
    let { q } = choleskyQr(product(scaled, sample), iterations === 0 ? 2 : 1);
    for (let i = 1; i <= iterations; i++) {
      const turned = choleskyQr(product(scaled, q, true), 1).q;
      q = choleskyQr(product(scaled, turned), i === iterations ? 2 : 1).q;
    }
    // a^T q = p r = (p u) diag(s) v^T, so a ~ q q^T a = (q v) diag(s) (p u)^T.
    const { q: p, r } = choleskyQr(product(scaled, q, true), 2);
    const { u, s, v } = decompose(r);
    const factors = {
      u: q.mmul(leadingColumns(v, rank)),
      s: s.slice(0, rank).map((value) => value * scale),
      v: p.mmul(leadingColumns(u, rank)),
    };
    return writeSvd(factors, 'randomizedSvd');
  });
}

/** `a b`, or `a^T b`, on the backend. */
function product(a: Tensor2D, b: Matrix, transposeA = false): Matrix {
  return readMatrix(matMul(a, writeMatrix(b, 'randomizedSvd: basis'), transposeA), 'randomizedSvd: product');
}

/** A power of two close to the largest entry: dividing by it is exact and keeps all products inside float32's range. */
function powerOfTwoScale(a: Tensor2D): number {
  let largest = 0;
  for (const value of checkFinite(a.dataSync(), 'randomizedSvd: a', a.shape[1])) {
    largest = Math.max(largest, Math.abs(value));
  }
  return largest === 0 ? 1 : 2 ** Math.max(Math.floor(Math.log2(largest)), -126);
}

function leadingColumns(matrix: Matrix, count: number): Matrix {
  return matrix.subMatrix(0, matrix.rows - 1, 0, count - 1);
}

function checkInteger(option: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new ConfigError(`randomizedSvd: ${option} is ${value}; it may be a whole number in [${least}, ${most}]`);
  }
}
