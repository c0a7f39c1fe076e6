import '@tensorflow/tfjs-backend-cpu';
import { attend } from '@ashlar/nn';
import { Rng, range, reverse, setBackend, type Tensor, tensor, tidy, zeros } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { Nope } from './nope.ts';

beforeAll(() => setBackend('cpu'));

describe('Nope', () => {
  const positions = (): Tensor => range(0, 5, 1, 'int32');

  it('lets a causal head of equal weights count: 1/t from an indicator of the first token', () => {
    const nothing = zeros([1, 1, 5, 2]);
    const first = tensor([1, 0, 0, 0, 0], [1, 1, 5, 1]);
    const options = { encoding: new Nope(), qPositions: positions(), kPositions: positions(), causal: true };
    const out = attend(nothing, nothing, first, options).dataSync();
    for (const [i, value] of out.entries()) expect(value).toBeCloseTo(1 / (i + 1), 6);
  });

  it('gives no order without a causal mask', () => {
    const [q, k, v] = [0, 1, 2].map((seed) => new Rng(seed).normal([1, 2, 5, 4]));
    const attended = (causal: boolean, turn: (x: Tensor) => Tensor): Float32Array =>
      tidy(() => {
        const options = { encoding: new Nope(), qPositions: positions(), kPositions: positions(), causal };
        return attend(q, turn(k), turn(v), options);
      }).dataSync<'float32'>();
    const difference = (causal: boolean): number => {
      const [a, b] = [attended(causal, (x) => x), attended(causal, (x) => reverse(x, 2))];
      return Math.max(...a.map((value, i) => Math.abs(value - b[i])));
    };
    expect(difference(false)).toBeLessThan(1e-5);
    expect(difference(true)).toBeGreaterThan(0.1);
  });
});
