import '@tensorflow/tfjs-backend-cpu';
import {
  ConfigError,
  disposeMap,
  lossAndGrads,
  memory,
  mul,
  Rng,
  setBackend,
  stateDict,
  sum,
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

  it('refuses fractional positions and options that leave no buckets', () => {
    const rng = new Rng(0);
    const encoding = new T5RelativeBias({ heads: 1, rng });
    expect(() => encoding.bias(tensor1d([0.5]), tensor1d([1]))).toThrow(/whole positions/);
    expect(() => new T5RelativeBias({ heads: 1, buckets: 5, bidirectional: true, rng })).toThrow(ConfigError);
    expect(() => new T5RelativeBias({ heads: 1, buckets: 1, rng })).toThrow(/whole number >= 2/);
    expect(() => new T5RelativeBias({ heads: 1, buckets: 32, maxDistance: 16, rng })).toThrow(/> 16/);
  });
});
