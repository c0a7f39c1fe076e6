import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { nuclearNorm } from './nuclear-norm.ts';
import { svd } from './svd.ts';
import { of, random, useCpuWithoutLeaks } from './testing.ts';

useCpuWithoutLeaks();

describe('nuclearNorm', () => {
  it('is the sum of the singular values', () => {
    expect(of(Matrix.diag([3, -4, 0]), nuclearNorm).get(0, 0)).toBeCloseTo(7, 6);
    const a = random(5, 9, 8);
    expect(of(a, nuclearNorm).get(0, 0)).toBeCloseTo(of(a, svd).s.sum(), 4);
    expect(of(Matrix.zeros(2, 3), nuclearNorm).get(0, 0)).toBe(0);
  });
});
