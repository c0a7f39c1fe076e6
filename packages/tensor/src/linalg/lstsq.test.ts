import { type Tensor2D, tensor1d, tensor2d } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../errors.ts';
import { lstsq } from './lstsq.ts';
import { svd } from './svd.ts';
import { anyMatrix, distance, EPS, of, random, take, useCpuWithoutLeaks } from './testing.ts';

useCpuWithoutLeaks();

describe('lstsq', () => {
  it('satisfies the normal equations with the smallest norm', () => {
    fc.assert(
      fc.property(anyMatrix, (a) => {
        const b = random(a.rows, 2, 7);
        const right: Tensor2D = tensor2d(b.to2DArray());
        const x = of(a, (t) => lstsq(t, right, { rcond: 1e-5 }));
        right.dispose();
        expect([x.rows, x.columns]).toEqual([a.columns, 2]);
        const residual = Matrix.sub(a.mmul(x), b);
        const scale = a.norm() * (a.norm() * x.norm() + b.norm());
        expect(a.transpose().mmul(residual).norm()).toBeLessThanOrEqual(2e-5 * scale);
        // No part of x lies in the null space of a.
        const { s, vt } = of(a, svd);
        const rank = s.to1DArray().filter((value) => value > 1e-5 * s.get(0, 0)).length;
        const rowSpace = rank === 0 ? Matrix.zeros(1, a.columns) : vt.subMatrix(0, rank - 1, 0, a.columns - 1);
        expect(distance(rowSpace.transpose().mmul(rowSpace).mmul(x), x)).toBeLessThanOrEqual(1e-5 * x.norm());
      }),
      { numRuns: 100 },
    );
  });

  it('fits a line, takes a vector, and obeys rcond', () => {
    const a = tensor2d([
      [1, 0],
      [1, 1],
      [1, 2],
    ]);
    const b = tensor1d([1, 3, 5]);
    const x = lstsq(a, b);
    expect(x.shape).toEqual([2]);
    expect(distance(take(x), Matrix.columnVector([1, 2]))).toBeLessThan(EPS * 4);
    expect(take(lstsq(a, b, { rcond: 1 })).norm()).toBe(0);
    expect(() => lstsq(a, b, { rcond: -1 })).toThrow(ConfigError);
    a.dispose();
    b.dispose();
  });
});
