import '@tensorflow/tfjs-backend-cpu';
import { normal_ } from '@ashlar/nn';
import {
  abs,
  ConfigError,
  disposeMap,
  lossAndGrads,
  max,
  memory,
  Rng,
  type Scalar,
  setBackend,
  square,
  sub,
  sum,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { SequentialPositionEncoder, type SequentialPositionEncoderOptions } from './sequential-position-encoder.ts';

beforeAll(() => setBackend('cpu'));

const encoderOf = (options: Partial<SequentialPositionEncoderOptions> = {}): SequentialPositionEncoder =>
  new SequentialPositionEncoder({
    dim: 8,
    heads: 2,
    layers: 1,
    maxDigits: 2,
    dropout: 0,
    init: normal_({ std: 0.5 }),
    rng: new Rng(3),
    ...options,
  });

const distance = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);

describe('SequentialPositionEncoder', () => {
  it('has the parameters of the official code', () => {
    const names = [...encoderOf({ axes: 2 }).namedParameters()].map(([name, { shape }]) => `${name} ${shape}`);
    expect(names).toEqual(
      expect.arrayContaining([
        'token_of_seqpe_embed.weight 10,8',
        'pos_of_seqpe_embed.weight 4,8',
        'dim_token_embed 2,1,8',
        'cls_token_embed 1,1,8',
        'transformers.0.attn.c_attn.weight 8,24',
        'transformers.0.mlp.c_fc.weight 8,32',
        'layernorm.weight 8',
        'out_proj.weight 8,8',
      ]),
    );
    const bare = encoderOf({ finalNorm: false, summaryToken: false });
    const absent = [...bare.namedParameters()].filter(([name]) => /cls|dim_token|^layernorm/.test(name));
    expect(absent).toEqual([]);
  });

  it.each<[string, Partial<SequentialPositionEncoderOptions>]>([
    ['causal', {}],
    ['causal, the last digit sums up', { summaryToken: false }],
    ['causal, without the padding', { maskPadding: true }],
    ['bidirectional, without the padding', { direction: 'bidirectional', maskPadding: true, finalNorm: false }],
    ['two axes', { axes: 2, outDim: 3, temperature: 2 }],
  ])('has right gradients for every parameter: %s', (_, options) => {
    const encoder = encoderOf(options);
    const positions =
      options.axes === 2
        ? tensor2d(
            [
              [0, 7],
              [13, 2],
            ],
            [2, 2],
            'int32',
          )
        : tensor1d([0, 7, 42], 'int32');
    const parameters = [...encoder.namedParameters()].filter(([name]) => /embed|c_attn.bias|out_proj.bias/.test(name));
    for (const [, parameter] of parameters) {
      const value = parameter.stored.clone();
      gradCheck(
        (x) => {
          const old = parameter.exchange(x);
          const out = encoder.apply(positions);
          parameter.exchange(old);
          return out;
        },
        [value],
        { order: 1, rtol: 5e-3, atol: 2e-3 },
      );
    }
  });

  it('gives the same vector wherever a position stands, and another to each', () => {
    const encoder = encoderOf({ maxDigits: 3 }).eval();
    const all = encoder.apply(tensor1d([5, 50, 500, 5], 'int32')).arraySync() as number[][];
    expect(all[0]).toEqual(all[3]);
    expect(distance(tensor1d(all[0]), tensor1d(all[1]))).toBeGreaterThan(1e-3);
    expect(distance(tensor1d(all[1]), tensor1d(all[2]))).toBeGreaterThan(1e-3);
    const again = encoderOf({ maxDigits: 3 }).apply(tensor1d([5], 'int32'));
    expect(distance(again, tensor2d([all[0]]))).toBeLessThan(1e-6);
    const other = encoderOf({ maxDigits: 3, rng: new Rng(4) }).apply(tensor1d([5], 'int32'));
    expect(distance(other, tensor2d([all[0]]))).toBeGreaterThan(1e-3);
  });

  it('reads no padding where it is masked: longer strings of the same number agree', () => {
    const short = encoderOf({ maskPadding: true, maxDigits: 2 });
    const long = encoderOf({ maskPadding: true, maxDigits: 4 });
    for (const [name, parameter] of short.namedParameters()) {
      if (!name.startsWith('pos_of')) long.getParameter(name).assign(parameter.stored.clone());
    }
    // The places of the last two digits are those of the short string.
    long.pos_of_seqpe_embed.weight.assign(
      tensor2d([
        ...Array(2).fill(Array(8).fill(9)),
        ...(short.pos_of_seqpe_embed.weight.stored.arraySync() as number[][]),
      ]),
    );
    const positions = tensor1d([0, 7, 42], 'int32');
    expect(distance(short.apply(positions), long.apply(positions))).toBeLessThan(1e-5);
  });

  it('acts on the hidden units as it is told', () => {
    const positions = tensor1d([3, 14]);
    const [usual, named, other] = [undefined, 'gelu_new', 'relu'].map((activation) =>
      encoderOf({ activation }).apply(positions),
    );
    expect(distance(usual, named)).toBe(0);
    expect(distance(usual, other)).toBeGreaterThan(1e-3);
    expect(() => encoderOf({ activation: 'gelu_tanh' })).toThrow(/activation is 'gelu_tanh'; it must be one of/);
  });

  it('drops out in training only, differently each time', () => {
    const encoder = encoderOf({ dropout: 0.5 });
    const run = (): Tensor => encoder.apply(tensor1d([3], 'int32'));
    expect(distance(run(), run())).toBeGreaterThan(1e-3);
    encoder.eval();
    expect(distance(run(), run())).toBe(0);
  });

  it('leaks nothing', () => {
    const encoder = encoderOf();
    const positions = tensor1d([1, 2], 'int32');
    expectNoLeak(() => encoder.apply(positions));
    const before = memory().numTensors;
    const { loss, grads } = lossAndGrads(
      () => sum(square(encoder.apply(positions))) as Scalar,
      encoder.trainableParameters(),
    );
    loss.dispose();
    disposeMap(grads);
    expect(memory().numTensors).toBe(before);
  });

  it('refuses options that do not fit and positions that are none', () => {
    expect(() => encoderOf({ heads: 3 })).toThrow(/heads is 3; it must divide dim, 8/);
    expect(() => encoderOf({ heads: undefined })).toThrow(/heads \(dim \/ 64\) is 0.125/);
    expect(() => encoderOf({ direction: 'bidirectional', summaryToken: false })).toThrow(/summaryToken is false/);
    expect(() => encoderOf({ direction: 'up' as 'causal' })).toThrow(ConfigError);
    expect(() => encoderOf({ temperature: 0 })).toThrow(/temperature/);
    expect(() => encoderOf({ dropout: 1 })).toThrow(ConfigError);
    expect(() => encoderOf().apply(tensor1d([100], 'int32'))).toThrow(/coordinate 100/);
    expect(() => encoderOf().apply(tensor1d([-1], 'int32'))).toThrow(/positions from 0, not -1/);
    expect(() => encoderOf({ axes: 2 }).apply(tensor1d([1], 'int32'))).toThrow(/\[seq, 2\]/);
  });
});
