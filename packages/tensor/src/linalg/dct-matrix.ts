import { type Tensor2D, tensor2d } from '@tensorflow/tfjs-core';
import { ConfigError } from '../errors.ts';

/**
 * The orthonormal DCT-II matrix `c [n, n]`: `c[k, i] = sqrt(2 / n) cos(pi (2 i + 1) k / (2 n))`, its first row divided
 * by `sqrt(2)`. `matMul(c, x)` transforms the columns of `x`; `c c^T = I`, so `c^T` transforms back.
 *
 * The result belongs to the caller.
 *
 * @throws ConfigError unless `n` is a whole number in [1, 16384].
 */
export function dctMatrix(n: number): Tensor2D {
  if (!Number.isInteger(n) || n < 1 || n > 16384) {
    throw new ConfigError(`dctMatrix: n is ${n}; it may be a whole number in [1, 16384]`);
  }
  const values = new Float32Array(n * n).fill(Math.sqrt(1 / n), 0, n);
  for (let k = 1; k < n; k++) {
    for (let i = 0; i < n; i++) {
      // Whole turns are taken off as integers: the angle stays exact for any n.
      const turns = (((2 * i + 1) * k) % (4 * n)) / (4 * n);
      values[k * n + i] = Math.sqrt(2 / n) * Math.cos(2 * Math.PI * turns);
    }
  }
  return tensor2d(values, [n, n]);
}
