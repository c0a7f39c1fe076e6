import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, grad, ones, Rng, setBackend } from '@ashlar/tensor';
import { expectNoLeak } from '@ashlar/tensor/testing';
import { beforeAll, expect, it } from 'vitest';
import { Dropout } from './index.ts';

beforeAll(() => setBackend('cpu'));

it('zeroes with probability p and scales the rest, forward and backward', () => {
  const layer = new Dropout(0.25, new Rng(0));
  const y = layer.apply(ones([100, 100])).dataSync();
  expect(new Set(y)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
  expect(y.filter((value) => value === 0).length / y.length).toBeCloseTo(0.25, 1);
  // The gradient of the sum is the mask itself: scaled where kept, zero where dropped.
  const again = new Dropout(0.25, new Rng(0));
  expect(grad((x) => again.apply(x))(ones([100, 100])).dataSync()).toEqual(y);
});

it('draws a new mask each time, the same from the same seed', () => {
  const [a, b] = [new Dropout(0.5, new Rng(4)), new Dropout(0.5, new Rng(4))];
  const first = a.apply(ones([64])).dataSync();
  expect(b.apply(ones([64])).dataSync()).toEqual(first);
  expect(a.apply(ones([64])).dataSync()).not.toEqual(first);
});

it('is the identity in evaluation and for p = 0', () => {
  const x = ones([8]);
  expect(new Dropout(0.5, new Rng(0)).eval().apply(x).dataSync()).toEqual(x.dataSync());
  expect(new Dropout(0, new Rng(0)).apply(x).dataSync()).toEqual(x.dataSync());
});

it('takes p in [0, 1) and leaves nothing behind', () => {
  for (const p of [-0.1, 1, Number.NaN]) expect(() => new Dropout(p, new Rng(0))).toThrow(ConfigError);
  const layer = new Dropout(0.5, new Rng(0));
  const x = ones([8]);
  expectNoLeak(() => layer.apply(x));
});
