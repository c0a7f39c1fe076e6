import '@tensorflow/tfjs-backend-cpu';
import {
  abs,
  ConfigError,
  disposeMap,
  lossAndGrads,
  max,
  memory,
  mul,
  Rng,
  range,
  reshape,
  reverse,
  setBackend,
  stateDict,
  sub,
  sum,
  type Tensor,
  tensor1d,
  tensor2d,
} from '@ashlar/tensor';
import { expectNoLeak } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { T5RelativeBias, t5Bucket } from './t5-relative-bias.ts';

beforeAll(() => setBackend('cpu'));

describe('t5Bucket', () => {
  it('follows the original, causal and bidirectional', () => {
    // T5Attention._relative_position_bucket of transformers, 32 buckets, maximal distance 128.
    const causal = [-200, -128, -113, -112, -64, -32, -16, -15, -1, 0, 5];
    expect(causal.map((distance) => t5Bucket(distance))).toEqual([31, 31, 31, 30, 26, 21, 16, 15, 1, 0, 0]);
    const both = [-200, -128, -91, -64, -16, -8, -7, -1, 0, 1, 7, 8, 16, 64, 127, 300];
    const expected = [15, 15, 15, 14, 10, 8, 7, 1, 0, 17, 23, 24, 26, 30, 31, 31];
    expect(both.map((distance) => t5Bucket(distance, { bidirectional: true }))).toEqual(expected);
  });

  it('never decreases with the distance and stays in range', () => {
    for (const options of [
      { buckets: 8, maxDistance: 20 },
      { buckets: 7, maxDistance: 1000 },
      { buckets: 2, maxDistance: 5 },
    ]) {
      let last = 0;
      for (let n = 0; n < 2000; n++) {
        const bucket = t5Bucket(-n, options);
        expect(bucket).toBeGreaterThanOrEqual(last);
        expect(bucket).toBeLessThan(options.buckets);
        last = bucket;
      }
    }
  });
});

describe('T5RelativeBias', () => {
  it('adds the table entry of each distance, from any offset', () => {
    const encoding = new T5RelativeBias({ heads: 2, buckets: 4, maxDistance: 8, rng: new Rng(0) });
    expect([...stateDict(encoding).keys()]).toEqual(['relative_attention_bias.weight']);
    const table = [0, 1, 2, 3].map((bucket) => [bucket, 10 * bucket]);
    encoding.relative_attention_bias.weight.assign(tensor2d(table));
    const bias = encoding.bias(tensor1d([20, 21], 'int32'), tensor1d([0, 19, 20, 21], 'int32'));
    const buckets = [
      [3, 1, 0, 0],
      [3, 2, 1, 0],
    ];
    expect(bias.arraySync()).toEqual([buckets, buckets.map((row) => row.map((bucket) => 10 * bucket))]);
    const positions = tensor1d([0, 1, 2], 'int32');
    expectNoLeak(() => encoding.bias(positions, positions));
    encoding.dispose();
  });

  it('trains its table', () => {
    const encoding = new T5RelativeBias({ heads: 1, buckets: 4, maxDistance: 8, rng: new Rng(0) });
    const positions = tensor1d([0, 1], 'int32');
    const weights = tensor2d([
      [1, 10],
      [100, 1000],
    ]);
    encoding.bias(positions, positions).dispose();
    const before = memory().numTensors;
    const { loss, grads } = lossAndGrads(
      () => sum(mul(encoding.bias(positions, positions), weights)),
      encoding.trainableParameters(),
    );
    expect(grads.get('relative_attention_bias.weight')?.arraySync()).toEqual([[1011], [100], [0], [0]]);
    loss.dispose();
    disposeMap(grads);
    expect(memory().numTensors).toBe(before);
  });

  it.each([
    [200, 130, 30],
    [129, 128, 0],
    [1, 20_000, 9],
  ])('is the same, put together or looked up: %i queries, %i keys from %i', (queries, keys, first) => {
    const encoding = new T5RelativeBias({ heads: 2, rng: new Rng(1), bidirectional: true });
    const [q, k] = [range(first, first + queries, 1, 'int32'), range(0, keys, 1, 'int32')];
    const [together, backwards] = [encoding.bias(q, k), encoding.bias(reverse(q), reverse(k))];
    expect(together.shape).toEqual([2, queries, keys]);
    expect(max(abs(sub(reverse(together, [1, 2]), backwards))).dataSync()[0]).toBe(0);
    const weights = new Rng(2).normal([2, queries, keys]);
    const gradient = (of: () => Tensor): Float32Array => {
      const { loss, grads } = lossAndGrads(() => sum(mul(weights, of())), encoding.trainableParameters());
      const [values] = [...grads.values()].map((grad) => grad.dataSync<'float32'>());
      loss.dispose();
      disposeMap(grads);
      return values;
    };
    const expected = gradient(() => reverse(encoding.bias(reverse(q), reverse(k)), [1, 2]));
    for (const [i, value] of gradient(() => encoding.bias(q, k)).entries()) expect(value).toBeCloseTo(expected[i], 2);
    expectNoLeak(() => encoding.bias(q, k));
  });

  it('computes buckets of the distances that occur, however far the last begins', () => {
    const options = { buckets: 64, maxDistance: 1e12 };
    const encoding = new T5RelativeBias({ heads: 1, ...options, rng: new Rng(0) });
    encoding.relative_attention_bias.weight.assign(reshape(range(0, 64), [64, 1]));
    for (const keys of [
      [0, 1, 5],
      [0, 70_000, 2_000_000_000],
      [40, 3, 40, 7],
    ]) {
      const query = 2_000_000_000;
      const bias = encoding.bias(tensor1d([query], 'int32'), tensor1d(keys, 'int32'));
      expect(bias.arraySync()).toEqual([[keys.map((key) => t5Bucket(key - query, options))]]);
    }
    expect(t5Bucket(-2e9, options)).toBeLessThan(t5Bucket(-1e12, options));
  });

  it('refuses fractional positions and options that leave no buckets', () => {
    const rng = new Rng(0);
    const encoding = new T5RelativeBias({ heads: 1, rng });
    expect(() => encoding.bias(tensor1d([0.5]), tensor1d([1]))).toThrow(/whole positions/);
    expect(() => new T5RelativeBias({ heads: 1, buckets: 5, bidirectional: true, rng })).toThrow(ConfigError);
    expect(() => new T5RelativeBias({ heads: 1, buckets: 1, rng })).toThrow(/whole number >= 2/);
    expect(() => new T5RelativeBias({ heads: 1, buckets: 32, maxDistance: 16, rng })).toThrow(/> 16/);
  });
});
