import fc from 'fast-check';
import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { eigh } from './eigh.ts';
import { anyMatrix, distance, EPS, expectOrthonormalColumns, hilbert, of, useCpuWithoutLeaks } from './testing.ts';

useCpuWithoutLeaks();

describe('eigh', () => {
  function expectEigh(a: Matrix): Matrix {
    const { values, vectors } = of(a, eigh);
    const ascending = values.to1DArray();
    expect(ascending.every((value, i) => i === 0 || value >= ascending[i - 1])).toBe(true);
    expectOrthonormalColumns(vectors);
    const rebuilt = vectors.mmul(Matrix.diag(ascending)).mmul(vectors.transpose());
    expect(distance(rebuilt, a)).toBeLessThanOrEqual(EPS * a.norm());
    return values;
  }

  it('reconstructs any symmetric matrix', () => {
    const symmetric = anyMatrix.map((a) => a.mmul(a.transpose()).sub(Matrix.eye(a.rows).mul(2)));
    fc.assert(
      fc.property(symmetric, (a) => void expectEigh(a)),
      { numRuns: 100 },
    );
    expectEigh(Matrix.zeros(3, 3));
    expectEigh(hilbert(8));
    expectEigh(new Matrix([[-2]]));
  });

  it('gives the known values of small matrices', () => {
    expect(
      expectEigh(
        new Matrix([
          [0, 1],
          [1, 0],
        ]),
      ).to1DArray(),
    ).toEqual([-1, 1]);
    const values = expectEigh(
      new Matrix([
        [2, -1, -1],
        [-1, 2, -1],
        [-1, -1, 2],
      ]),
    );
    expect(distance(values, Matrix.columnVector([0, 3, 3]))).toBeLessThan(EPS);
  });

  it('takes rounding for symmetric and nothing more', () => {
    expectEigh(
      new Matrix([
        [1, 2],
        [2 + 1e-6, 1],
      ]),
    );
    expect(() =>
      of(
        new Matrix([
          [1, 2],
          [2.1, 1],
        ]),
        eigh,
      ),
    ).toThrow(/not symmetric: entry \[1, 0\] is 2\.09.*Pass/);
  });
});
