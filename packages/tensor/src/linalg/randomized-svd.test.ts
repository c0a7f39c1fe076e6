import { type Tensor2D, zeros } from '@tensorflow/tfjs-core';
import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../errors.ts';
import { Rng } from '../rng.ts';
import { randomizedSvd } from './randomized-svd.ts';
import { svd } from './svd.ts';
import {
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

describe('randomizedSvd', () => {
  const geometric = Array.from({ length: 30 }, (_, i) => 5 * 0.7 ** i);

  it.each([
    ['tall', 120, 80],
    ['wide', 80, 120],
  ])('agrees with svd on a decaying spectrum: %s', (_, rows, columns) => {
    const a = withSpectrum(rows, columns, geometric);
    const exact = of(a, svd);
    const fast = of(a, (x) => randomizedSvd(x, 8, { rng: new Rng(1) }));
    const leading = (m: Matrix): Matrix => m.subMatrix(0, m.rows - 1, 0, 7);
    expect(distance(fast.s, exact.s.subMatrix(0, 7, 0, 0))).toBeLessThan(5 * EPS);
    expect(distance(fast.u, leading(exact.u))).toBeLessThan(2e-5);
    expect(distance(fast.vt.transpose(), leading(exact.vt.transpose()))).toBeLessThan(2e-5);
  });

  it('needs its iterations where the spectrum decays slowly', () => {
    const slow = Array.from({ length: 60 }, (_, i) => 1 / Math.sqrt(i + 1));
    const a = withSpectrum(100, 60, slow);
    const error = (iterations: number): number =>
      Math.abs(of(a, (x) => randomizedSvd(x, 5, { iterations, rng: new Rng(2) })).s.get(4, 0) - slow[4]);
    expect(error(0)).toBeGreaterThan(0.03);
    expect(error(4)).toBeLessThan(0.003);
  });

  it.each(HARD)('is complete at full rank: %s', (_, a) => {
    const rank = Math.min(a.rows, a.columns);
    const { u, s, vt } = of(a, (x) => randomizedSvd(x, rank, { rng: new Rng(3) }));
    expectOrthonormalColumns(u);
    expectOrthonormalColumns(vt.transpose());
    expect(distance(u.mmul(Matrix.diag(s.to1DArray())).mmul(vt), a)).toBeLessThanOrEqual(4 * EPS * a.norm());
  });

  it('gives the same numbers for the same seed', () => {
    const a = random(20, 30, 4);
    const once = (): Matrix => of(a, (x) => randomizedSvd(x, 3, { oversampling: 0, iterations: 1, rng: new Rng(5) })).u;
    expect(distance(once(), once())).toBe(0);
  });

  it('refuses options by name', () => {
    const a: Tensor2D = zeros([3, 4]);
    const rng = new Rng(0);
    expect(() => randomizedSvd(a, 4, { rng })).toThrow(/rank is 4; it may be a whole number in \[1, 3\]/);
    expect(() => randomizedSvd(a, 0, { rng })).toThrow(ConfigError);
    expect(() => randomizedSvd(a, 1, { rng, oversampling: -1 })).toThrow(/oversampling is -1/);
    expect(() => randomizedSvd(a, 1, { rng, iterations: 0.5 })).toThrow(/iterations is 0\.5/);
    a.dispose();
  });
});
