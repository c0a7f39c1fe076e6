import { type Tensor2D, tensor1d, tensor2d } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { NumericsError } from '../errors.ts';
import { inverse } from './inverse.ts';
import { solve } from './solve.ts';
import { anyMatrix, distance, EPS, hilbert, of, random, take, useCpuWithoutLeaks } from './testing.ts';

useCpuWithoutLeaks();

describe('solve and inverse', () => {
  it('solve any well-conditioned system', () => {
    const dominant = anyMatrix.map((a) => a.mmul(a.transpose()).add(Matrix.eye(a.rows)));
    fc.assert(
      fc.property(dominant, fc.integer({ min: 1, max: 3 }), (a, k) => {
        const b = random(a.rows, k, 6);
        const right: Tensor2D = tensor2d(b.to2DArray());
        const x = of(a, (t) => solve(t, right));
        right.dispose();
        expect(distance(a.mmul(x), b)).toBeLessThanOrEqual(EPS * (a.norm() * x.norm() + b.norm()));
        const inverted = of(a, inverse);
        expect(distance(a.mmul(inverted), Matrix.eye(a.rows))).toBeLessThanOrEqual(EPS * a.norm() * inverted.norm());
      }),
      { numRuns: 100 },
    );
  });

  it('give a vector for a vector', () => {
    const b = tensor1d([1, 2]);
    const a = tensor2d([
      [0, 2],
      [1, 0],
    ]);
    const x = solve(a, b);
    expect(x.shape).toEqual([2]);
    expect(take(x).to1DArray()).toEqual([2, 0.5]);
    a.dispose();
    b.dispose();
  });

  it('mind the scale of no equation', () => {
    expect(of(Matrix.diag([1, 1e-30, 1e30]), inverse).diagonal()).toEqual(
      [1, 1e-30, 1e30].map((x) => Math.fround(1 / Math.fround(x))),
    );
  });

  it('solve an ill-conditioned system to float64 accuracy', () => {
    const n = 7; // condition number 5e8, beyond float32
    const a = Matrix.from1DArray(n, n, Float32Array.from(hilbert(n).to1DArray()));
    const b = a.mmul(Matrix.ones(n, 1));
    const right = tensor2d(b.to2DArray());
    const x = of(a, (t) => solve(t, right));
    const residual = distance(a.mmul(x), Matrix.from1DArray(n, 1, right.dataSync()));
    right.dispose();
    expect(residual).toBeLessThan(EPS * a.norm() * x.norm());
  });

  it.each([
    [[[0]]],
    [
      [
        [1, 2],
        [2, 4],
      ],
    ],
    [
      [
        [1, 2, 3],
        [4, 5, 6],
        [7, 8, 9],
      ],
    ],
    [
      [
        [1, 0],
        [0, 0],
      ],
    ],
    [
      [
        [1, 2, 3],
        [3, 2, 1],
        [4, 4, 4],
      ],
    ],
  ])('refuse the singular %j', (rows) => {
    const b = tensor1d(rows.map(() => 1));
    expect(() => of(new Matrix(rows), inverse)).toThrow(/inverse: a is singular.*Add a small multiple/);
    expect(() => of(new Matrix(rows), (a) => solve(a, b))).toThrow(NumericsError);
    b.dispose();
  });

  it('refuse a result beyond float32', () => {
    expect(() => of(new Matrix([[1e-40]]), inverse)).toThrow(NumericsError);
  });
});
