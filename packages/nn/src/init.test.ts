import '@tensorflow/tfjs-backend-cpu';
import { Rng, ShapeError, setBackend, type Tensor } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  kaimingUniform_,
  normal_,
  ones_,
  orthogonal_,
  truncNormal_,
  uniform_,
  xavierUniform_,
  zeros_,
} from './index.ts';
import { dot, expectClose, rowsOf } from './reference.testing.ts';

beforeAll(() => setBackend('cpu'));

const rng = new Rng(3);
const largest = (x: Tensor): number => Math.max(...x.dataSync().map(Math.abs));

describe('uniform initialisers reach their bound and no further', () => {
  it.each([
    ['kaiming, [out, in]', kaimingUniform_(), [40, 25], Math.sqrt(6 / 25)],
    ['kaiming, slope sqrt(5)', kaimingUniform_({ a: Math.sqrt(5) }), [40, 25], 1 / 5],
    ['kaiming, kernel', kaimingUniform_(), [20, 3, 5, 5], Math.sqrt(6 / 75)],
    ['xavier, [out, in]', xavierUniform_(), [40, 25], Math.sqrt(6 / 65)],
    ['xavier, gain', xavierUniform_({ gain: 2 }), [40, 25], 2 * Math.sqrt(6 / 65)],
    ['xavier, kernel', xavierUniform_(), [20, 3, 5, 5], Math.sqrt(6 / (23 * 25))],
    ['uniform', uniform_(-0.3, 0.3), [1000], 0.3],
  ] as const)('%s', (_, init, shape, bound) => {
    const x = init([...shape], rng);
    expect(largest(x)).toBeLessThanOrEqual(bound);
    expect(largest(x)).toBeGreaterThan(0.98 * bound);
  });
});

it('draws normal numbers, cut where asked', () => {
  const x = normal_({ mean: 1, std: 0.5 })([20000], rng).dataSync<'float32'>();
  const mean = x.reduce((a, b) => a + b) / x.length;
  const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length;
  expect(mean).toBeCloseTo(1, 1);
  expect(Math.sqrt(variance)).toBeCloseTo(0.5, 1);
  const cut = truncNormal_({ std: 2, low: -1, high: 0.5 })([1000], rng).dataSync();
  expect(Math.min(...cut)).toBeGreaterThanOrEqual(-1);
  expect(Math.max(...cut)).toBeLessThanOrEqual(0.5);
});

it('makes orthonormal rows times the gain', () => {
  const rows = rowsOf(orthogonal_({ gain: 3 })([4, 2, 3], rng));
  const flat = [0, 1, 2, 3].map((i) => [...rows[2 * i], ...rows[2 * i + 1]]);
  for (const [i, a] of flat.entries()) {
    for (const [j, b] of flat.entries()) expect(dot(a, b)).toBeCloseTo(i === j ? 9 : 0, 4);
  }
});

it('fills with constants', () => {
  expectClose(zeros_()([3], rng), [0, 0, 0]);
  expectClose(ones_()([3], rng), [1, 1, 1]);
});

it('refuses fans of a vector', () => {
  expect(() => kaimingUniform_()([3], rng)).toThrow(ShapeError);
  expect(() => xavierUniform_()([3], rng)).toThrow(ShapeError);
});
