import fc from 'fast-check';
import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { svd } from './svd.ts';
import { anyMatrix, distance, EPS, expectOrthonormalColumns, HARD, of, useCpuWithoutLeaks } from './testing.ts';

useCpuWithoutLeaks();

function expectSvd(a: Matrix): void {
  const { u, s, vt } = of(a, svd);
  const k = Math.min(a.rows, a.columns);
  expect([u.rows, u.columns, s.rows, vt.rows, vt.columns]).toEqual([a.rows, k, k, k, a.columns]);
  expectOrthonormalColumns(u);
  expectOrthonormalColumns(vt.transpose());
  const values = s.to1DArray();
  expect(values.every((value, i) => value >= 0 && (i === 0 || value <= values[i - 1]))).toBe(true);
  expect(distance(u.mmul(Matrix.diag(values)).mmul(vt), a)).toBeLessThanOrEqual(EPS * a.norm());
  for (let j = 0; j < k; j++) {
    const column = u.getColumn(j);
    const largest = Math.max(...column.map(Math.abs));
    expect(column.find((x) => Math.abs(x) === largest)).toBeGreaterThan(0);
  }
}

describe('svd', () => {
  it.each(HARD)('reconstructs: %s', (_, a) => expectSvd(a));

  it('reconstructs any matrix', () => {
    fc.assert(fc.property(anyMatrix, expectSvd), { numRuns: 200 });
  });

  it('gives the known values of a small matrix', () => {
    const { s, u, vt } = of(
      new Matrix([
        [3, 0],
        [4, 5],
      ]),
      svd,
    );
    expect(s.get(0, 0)).toBeCloseTo(Math.sqrt(45), 5);
    expect(s.get(1, 0)).toBeCloseTo(Math.sqrt(5), 5);
    expect(u.get(0, 0)).toBeCloseTo(1 / Math.sqrt(10), 6);
    expect(vt.get(0, 0)).toBeCloseTo(1 / Math.SQRT2, 6);
  });
});
