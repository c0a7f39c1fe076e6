import '@tensorflow/tfjs-backend-cpu';
import {
  ConfigError,
  loadStateDict,
  Rng,
  ShapeError,
  setBackend,
  slice,
  stateDict,
  type Tensor,
  tensor2d,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { BatchNorm } from './index.ts';

beforeAll(() => setBackend('cpu'));

describe('BatchNorm', () => {
  it('normalizes each channel by the batch, and follows its statistics', () => {
    const norm = new BatchNorm(2);
    const out = norm
      .apply(
        tensor2d([
          [1, 10],
          [3, 30],
        ]),
      )
      .arraySync() as number[][];
    for (const [i, sign] of [-1, 1].entries()) for (const value of out[i]) expect(value).toBeCloseTo(sign, 4);
    // A tenth of mean and unbiased variance.
    expect(Array.from(norm.running_mean.stored.dataSync())).toEqual([expect.closeTo(0.2), expect.closeTo(2)]);
    expect(Array.from(norm.running_var.stored.dataSync())).toEqual([expect.closeTo(1.1), expect.closeTo(20.9)]);
    expect(norm.num_batches_tracked.stored.dataSync()[0]).toBe(1);
  });

  it('goes by the running statistics in evaluation, one picture as well as many', () => {
    const norm = new BatchNorm(3);
    for (let i = 0; i < 5; i++) norm.apply(new Rng(i).normal([4, 3, 2, 2], { mean: 2, std: 3 }));
    norm.eval();
    const x = new Rng(9).normal([4, 3, 2, 2]);
    const all = norm.apply(x) as Tensor;
    const first = norm.apply(slice(x, [0, 0, 0, 0], [1, -1, -1, -1])) as Tensor;
    for (const [i, value] of first.dataSync().entries()) expect(value).toBeCloseTo(all.dataSync()[i], 5);
  });

  it('has right gradients of both orders, and leaks nothing', () => {
    const norm = new BatchNorm(2);
    norm.weight.assign(new Rng(1).normal([2]));
    norm.bias.assign(new Rng(2).normal([2]));
    const x = new Rng(3).normal([3, 2, 2, 1]);
    gradCheck((x) => norm.apply(x), [x]);
    expectNoLeak(() => norm.apply(x));
    norm.eval();
    gradCheck((x) => norm.apply(x), [x]);
    expectNoLeak(() => norm.apply(x));
  });

  it('has the state of PyTorch, all of it loaded', () => {
    const [norm, again] = [new BatchNorm(2), new BatchNorm(2)];
    norm.weight.assign(new Rng(1).normal([2]));
    norm.apply(new Rng(2).normal([5, 2, 3]));
    const state = stateDict(norm);
    expect([...state.keys()]).toEqual(['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']);
    loadStateDict(again, state);
    const x = new Rng(3).normal([2, 2, 4]);
    expect(again.eval().apply(x).dataSync()).toEqual(norm.eval().apply(x).dataSync());
  });

  it('refuses other channels, a single value in training, and options out of range', () => {
    expect(() =>
      new BatchNorm(3).apply(
        tensor2d([
          [1, 2],
          [3, 4],
        ]),
      ),
    ).toThrow(ShapeError);
    expect(() => new BatchNorm(2).apply(tensor2d([[1, 2]]))).toThrow(/two values of each channel/);
    expect(() => new BatchNorm(2, { momentum: 2 })).toThrow(ConfigError);
    expect(() => new BatchNorm(2, { eps: -1 })).toThrow(/eps is -1/);
  });
});
