import '@tensorflow/tfjs-backend-cpu';
import { setBackend, softmax, tensor1d, tidy } from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { Alibi, alibiSlopes } from './alibi.ts';

beforeAll(() => setBackend('cpu'));

describe('alibiSlopes', () => {
  it('is geometric for powers of two and borrows from the next one otherwise', () => {
    expect(alibiSlopes(1)).toEqual([2 ** -8]);
    expect(alibiSlopes(8)).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((i) => 2 ** -i));
    expect(alibiSlopes(6)).toEqual([2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8, 2 ** -1, 2 ** -3]);
    expect(alibiSlopes(12).slice(8)).toEqual([0.5, 1.5, 2.5, 3.5].map((i) => 2 ** -i));
    expect(() => alibiSlopes(0)).toThrow(/heads is 0/);
    expect(() => alibiSlopes(2.5)).toThrow(/heads is 2.5/);
  });
});

describe('Alibi', () => {
  it('decays with distance, from any offset', () => {
    const encoding = new Alibi({ heads: 2 });
    const bias = encoding.bias(tensor1d([5, 6], 'int32'), tensor1d([4, 5, 6], 'int32'));
    expect(bias.shape).toEqual([2, 2, 3]);
    const [a, b] = alibiSlopes(2);
    const distances = [
      [-1, 0, 1],
      [-2, -1, 0],
    ];
    expect(bias.arraySync()).toEqual([a, b].map((slope) => distances.map((row) => row.map((d) => d * slope))));
  });

  it('attends as the key-only form does', () => {
    const encoding = new Alibi({ heads: 4 });
    const keys = tensor1d([0, 1, 2, 3]);
    const relative = tidy(() => softmax(encoding.bias(tensor1d([3]), keys)).dataSync());
    const keyOnly = tidy(() => softmax(encoding.bias(tensor1d([0]), keys)).dataSync());
    for (const [i, value] of relative.entries()) expect(value).toBeCloseTo(keyOnly[i], 6);
  });

  it('is symmetric on request, takes fractional positions and own slopes', () => {
    const encoding = new Alibi({ heads: 1, slopes: [0.5], symmetric: true });
    expect(encoding.bias(tensor1d([1]), tensor1d([0, 1.5])).arraySync()).toEqual([[[-0.5, -0.25]]]);
    expect(() => new Alibi({ heads: 2, slopes: [1] })).toThrow(/2 finite numbers/);
  });

  it('is differentiable in the positions and leaks nothing', () => {
    const encoding = new Alibi({ heads: 3, symmetric: true });
    gradCheck((q, k) => encoding.bias(q, k), [tensor1d([0.3, 2]), tensor1d([1, 3.5, 5])]);
    const positions = tensor1d([0, 1, 2], 'int32');
    expectNoLeak(() => encoding.bias(positions, positions));
  });
});
