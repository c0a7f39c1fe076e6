import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, Rng, ShapeError, setBackend } from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { Conv1D, Linear, normal_ } from './index.ts';
import { checkParameterGradients, dot, expectClose, expectDisposes, random, rowsOf } from './reference.testing.ts';

beforeAll(() => setBackend('cpu'));

const rng = new Rng(1);

describe('Linear', () => {
  it('computes x W^T + b over any leading axes', () => {
    const layer = new Linear(5, 3, { rng });
    const x = random([2, 4, 5]);
    const [weight, [bias]] = [rowsOf(layer.weight.stored), rowsOf(layer.bias!.stored)];
    const y = layer.apply(x);
    expect(y.shape).toEqual([2, 4, 3]);
    expectClose(
      y,
      rowsOf(x).map((row) => weight.map((w, i) => dot(row, w) + bias[i])),
    );
    expect(layer.apply(random([5])).shape).toEqual([3]);
  });

  it('starts as in PyTorch and is made on first use', () => {
    const layer = new Linear(16, 200, { rng });
    expect(layer.weight.materialized).toBe(false);
    for (const { stored } of [layer.weight, layer.bias!]) {
      const largest = Math.max(...stored.dataSync().map(Math.abs));
      expect(largest).toBeLessThanOrEqual(1 / 4);
      expect(largest).toBeGreaterThan(0.98 / 4);
    }
  });

  it('gives the same weights for the same seed, whatever was read first', () => {
    const [a, b] = [new Linear(4, 3, { rng: new Rng(7) }), new Linear(4, 3, { rng: new Rng(7) })];
    const bias = b.bias!.stored.dataSync();
    expect(a.weight.stored.dataSync()).toEqual(b.weight.stored.dataSync());
    expect(a.bias!.stored.dataSync()).toEqual(bias);
  });

  it('has the gradients of finite differences', () => {
    const layer = new Linear(3, 2, { rng });
    const x = random([2, 3]);
    gradCheck((x) => layer.apply(x), [x]);
    checkParameterGradients(layer, () => layer.apply(x));
  });

  it('names what does not fit', () => {
    expect(() => new Linear(0, 3, { rng })).toThrow(ConfigError);
    expect(() => new Linear(3, 1.5, { rng })).toThrow('Linear: outFeatures is 1.5; it must be a whole number >= 1.');
    expect(() => new Linear(3, 2, { rng }).apply(random([2, 4]))).toThrow(ShapeError);
  });

  it('leaves nothing behind', () => {
    const layer = new Linear(3, 2, { bias: false, rng });
    const x = random([4, 3]);
    expectNoLeak(() => layer.apply(x));
    expectDisposes(
      () => new Linear(3, 2, { rng }),
      (made: Linear) => made.apply(x),
    );
  });
});

describe('Conv1D', () => {
  it('computes x W + b with the weight as [in, out]', () => {
    const layer = new Conv1D(3, 2, { init: normal_(), rng });
    const x = random([4, 3]);
    const weight = rowsOf(layer.weight.stored);
    expect(layer.weight.shape).toEqual([3, 2]);
    expectClose(
      layer.apply(x),
      rowsOf(x).map((row) => [0, 1].map((out) => row.reduce((total, value, i) => total + value * weight[i][out], 0))),
    );
    expect(() => layer.apply(random([3, 2]))).toThrow(ShapeError);
    gradCheck((x) => layer.apply(x), [x]);
    checkParameterGradients(layer, () => layer.apply(x));
  });
});
