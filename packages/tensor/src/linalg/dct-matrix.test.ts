import { describe, expect, it } from 'vitest';
import { dctMatrix } from './dct-matrix.ts';
import { expectOrthonormalColumns, take, useCpuWithoutLeaks } from './testing.ts';

useCpuWithoutLeaks();

describe('dctMatrix', () => {
  it.each([1, 2, 3, 8, 65])('is orthonormal and follows the formula: %i', (n) => {
    const c = take(dctMatrix(n));
    expectOrthonormalColumns(c.transpose());
    for (let k = 0; k < n; k++) {
      for (let i = 0; i < n; i++) {
        const expected = Math.sqrt((k === 0 ? 1 : 2) / n) * Math.cos((Math.PI * (2 * i + 1) * k) / (2 * n));
        expect(Math.abs(c.get(k, i) - expected)).toBeLessThan(1e-7);
      }
    }
  });

  it('refuses sizes by name', () => {
    for (const n of [0, -1, 1.5, Number.NaN, 1e6]) expect(() => dctMatrix(n)).toThrow(/dctMatrix: n is/);
  });
});
