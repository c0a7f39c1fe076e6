import fc from 'fast-check';
import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { choleskyQr, qr } from './qr.ts';
import {
  anyMatrix,
  distance,
  EPS,
  expectOrthonormalColumns,
  HARD,
  of,
  random,
  useCpuWithoutLeaks,
  withSpectrum,
} from './testing.ts';

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

describe('choleskyQr', () => {
  const tall = HARD.map(([name, a]) => [name, a.rows < a.columns ? a.transpose() : a] as const);
  const steep = Array.from({ length: 20 }, (_, i) => 10 ** (-i / 2));

  it.each([...tall, ['odd number of rows', random(31, 7, 1)], ['steep', withSpectrum(40, 20, steep)]] as const)(
    'is the QR decomposition: %s',
    (_, a) => {
      const { q, r } = choleskyQr(a, 2);
      expect(distance(q.transpose().mmul(q), Matrix.eye(q.columns))).toBeLessThan(1e-12);
      expect(distance(q.mmul(r), a)).toBeLessThanOrEqual(1e-13 * a.norm());
      for (let i = 0; i < r.rows; i++) {
        expect(r.get(i, i)).toBeGreaterThanOrEqual(0);
        for (let j = 0; j < i; j++) expect(r.get(i, j)).toBe(0);
      }
    },
  );

  it('comes close with one round', () => {
    const { q, r } = choleskyQr(withSpectrum(40, 8, steep), 1);
    expect(distance(q.transpose().mmul(q), Matrix.eye(8))).toBeLessThan(2e-5);
    expect(distance(q.mmul(r), withSpectrum(40, 8, steep))).toBeLessThan(1e-12);
  });
});
