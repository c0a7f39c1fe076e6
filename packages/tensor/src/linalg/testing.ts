import '@tensorflow/tfjs-backend-cpu';
import { memory, setBackend, type Tensor, type Tensor2D, tensor2d } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { Matrix } from 'ml-matrix';
import { afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { Rng } from '../rng.ts';
import { orthogonal } from './index.ts';

/** float32 rounding of orthonormal factors, and a little for sums over them. */
export const EPS = 1e-6;

/** Runs the tests of a file on the `cpu` backend, each of which must leave no tensor behind. */
export function useCpuWithoutLeaks(): void {
  let tensorsBefore: number;
  beforeAll(async () => {
    await setBackend('cpu');
  });
  beforeEach(() => {
    tensorsBefore = memory().numTensors;
  });
  afterEach(() => {
    expect(memory().numTensors).toBe(tensorsBefore);
  });
}

/** The tensor's values in float64 (a vector as a column); disposes it. */
export function take(tensor: Tensor): Matrix {
  const [rows = 1, columns = 1] = tensor.shape;
  const matrix = Matrix.from1DArray(rows, columns, tensor.dataSync());
  tensor.dispose();
  return matrix;
}

/** What `compute` makes of a matrix; leaves no tensor behind. */
export function of(values: Matrix, compute: (a: Tensor2D) => Tensor): Matrix;
export function of<K extends string>(values: Matrix, compute: (a: Tensor2D) => Record<K, Tensor>): Record<K, Matrix>;
export function of(values: Matrix, compute: (a: Tensor2D) => Tensor | Record<string, Tensor>): unknown {
  const a = tensor2d(values.to2DArray(), undefined, 'float32');
  let result: Tensor | Record<string, Tensor>;
  try {
    result = compute(a);
  } finally {
    a.dispose();
  }
  if ('dataSync' in result && typeof result.dataSync === 'function') return take(result as Tensor);
  return Object.fromEntries(Object.entries(result).map(([key, tensor]) => [key, take(tensor)]));
}

export function distance(a: Matrix, b: Matrix): number {
  expect([a.rows, a.columns]).toEqual([b.rows, b.columns]);
  return Matrix.sub(a, b).norm();
}

export function expectOrthonormalColumns(q: Matrix): void {
  expect(distance(q.transpose().mmul(q), Matrix.eye(q.columns))).toBeLessThan(EPS * q.columns);
}

export function random(rows: number, columns: number, seed: number): Matrix {
  return Matrix.from1DArray(rows, columns, new Rng(seed).normalArray(rows * columns));
}

/** A matrix with the given singular values. */
export function withSpectrum(rows: number, columns: number, s: number[]): Matrix {
  const rng = new Rng('spectrum');
  const u = take(orthogonal([rows, s.length], { rng: rng.fork('u') }));
  const v = take(orthogonal([columns, s.length], { rng: rng.fork('v') }));
  return u.mmul(Matrix.diag(s)).mmul(v.transpose());
}

export function hilbert(n: number): Matrix {
  return new Matrix(Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => 1 / (i + j + 1))));
}

/** Matrices that decompositions are known to stumble over. */
export const HARD: [string, Matrix][] = [
  ['zero', Matrix.zeros(3, 4)],
  ['identity: repeated singular values', Matrix.eye(4)],
  ['one entry', new Matrix([[-3]])],
  ['row', new Matrix([[3, 0, -4, 1]])],
  ['column', new Matrix([[0], [-2], [2]])],
  ['zero row', Matrix.zeros(1, 5)],
  [
    'rank one',
    new Matrix([
      [1, 2, 3],
      [2, 4, 6],
      [-1, -2, -3],
      [0, 0, 0],
    ]),
  ],
  ['repeated and zero singular values', Matrix.diag([2, 2, 1, 1, 0, 0], 6, 5)],
  [
    'zero leading column',
    new Matrix([
      [0, 1, 2],
      [0, 3, 4],
      [0, 5, 6],
    ]),
  ],
  [
    'nilpotent',
    new Matrix([
      [0, 1, 0],
      [0, 0, 1],
      [0, 0, 0],
    ]),
  ],
  ['ill-conditioned', hilbert(8)],
  ['huge', random(4, 3, 1).mul(1e37)],
  ['tiny', random(3, 4, 1).mul(1e-35)],
  [
    'both huge and tiny',
    new Matrix([
      [1e37, 1],
      [1, 1e-37],
    ]),
  ],
  ['wide', random(3, 17, 2)],
  ['tall', random(17, 3, 3)],
];

/** Normal float32 numbers: results of subnormal ones keep too few digits to compare. */
const float: fc.Arbitrary<number> = fc
  .float({ min: -100, max: 100, noNaN: true })
  .map((x) => (Math.abs(x) < 1e-20 ? 0 : x));

/** Matrices up to 7 x 7; the integer ones are often rank-deficient. */
export const anyMatrix: fc.Arbitrary<Matrix> = fc
  .tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 7 }), fc.boolean())
  .chain(([rows, columns, whole]) => {
    const entry = whole ? fc.integer({ min: -1, max: 1 }) : float;
    const size = rows * columns;
    return fc
      .array(entry, { minLength: size, maxLength: size })
      .map((values) => Matrix.from1DArray(rows, columns, values));
  });
