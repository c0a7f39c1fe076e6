import fc from 'fast-check';
import type { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { qr } from './qr.ts';
import { anyMatrix, distance, EPS, expectOrthonormalColumns, HARD, of, useCpuWithoutLeaks } from './testing.ts';

useCpuWithoutLeaks();

function expectQr(a: Matrix): void {
  const { q, r } = of(a, qr);
  const k = Math.min(a.rows, a.columns);
  expect([q.rows, q.columns, r.rows, r.columns]).toEqual([a.rows, k, k, a.columns]);
  expectOrthonormalColumns(q);
  expect(distance(q.mmul(r), a)).toBeLessThanOrEqual(EPS * a.norm());
  for (let i = 0; i < k; i++) {
    expect(r.get(i, i)).toBeGreaterThanOrEqual(0);
    for (let j = 0; j < i; j++) expect(r.get(i, j)).toBe(0);
  }
}

describe('qr', () => {
  it.each(HARD)('reconstructs: %s', (_, a) => expectQr(a));

  it('reconstructs any matrix', () => {
    fc.assert(fc.property(anyMatrix, expectQr), { numRuns: 200 });
  });
});
