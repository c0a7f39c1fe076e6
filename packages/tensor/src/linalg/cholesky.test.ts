import fc from 'fast-check';
import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { cholesky } from './cholesky.ts';
import { anyMatrix, distance, EPS, of, useCpuWithoutLeaks } from './testing.ts';

useCpuWithoutLeaks();

describe('cholesky', () => {
  it('gives a lower factor with a positive diagonal', () => {
    const positive = anyMatrix.map((a) => a.mmul(a.transpose()).add(Matrix.eye(a.rows)));
    fc.assert(
      fc.property(positive, (a) => {
        const l = of(a, cholesky);
        expect(distance(l.mmul(l.transpose()), a)).toBeLessThanOrEqual(EPS * a.norm());
        for (let i = 0; i < l.rows; i++) {
          expect(l.get(i, i)).toBeGreaterThan(0);
          for (let j = i + 1; j < l.columns; j++) expect(l.get(i, j)).toBe(0);
        }
      }),
      { numRuns: 100 },
    );
    expect(
      of(
        new Matrix([
          [4, 2],
          [2, 10],
        ]),
        cholesky,
      ).to2DArray(),
    ).toEqual([
      [2, 0],
      [1, 3],
    ]);
  });

  it.each([
    ['negative', [[-1]]],
    [
      'indefinite',
      [
        [1, 2],
        [2, 1],
      ],
    ],
    [
      'semi-definite',
      [
        [1, 1],
        [1, 1],
      ],
    ],
    [
      'zero',
      [
        [0, 0],
        [0, 0],
      ],
    ],
  ])('refuses a matrix that is %s', (_, rows) => {
    expect(() => of(new Matrix(rows), cholesky)).toThrow(/not positive definite\. Add a small multiple/);
  });
});
