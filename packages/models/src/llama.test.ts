import '@ashlar/backend-ort';
import { Alibi, Nope, Sinusoidal, T5RelativeBias } from '@ashlar/encodings';
import { memory, type PositionEncoding, Rng, ShapeError, setBackend, tensor1d, tensor2d } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { Llama } from './llama.ts';
import { loadModel } from './load.ts';
import { checkpoint, LLAMA, llamaWeights } from './testing/checkpoint.ts';
import { cachedLogits, expectClose, idsOf, logitsOf } from './testing/logits.ts';
import { llamaLogits, type PlainConfig } from './testing/reference.ts';

beforeAll(() => setBackend('ort'));

const VARIANTS: Record<string, PlainConfig> = {
  'untied, grouped queries': LLAMA,
  tied: { ...LLAMA, tie_word_embeddings: true },
  'as many key heads as query heads': { ...LLAMA, num_key_value_heads: 4 },
  'one key head': { ...LLAMA, num_key_value_heads: 1 },
  'biases everywhere': { ...LLAMA, attention_bias: true, mlp_bias: true },
  'head_dim unlike hidden / heads': { ...LLAMA, head_dim: 12 },
  'rope_scaling null': { ...LLAMA, rope_scaling: null },
  'rope_scaling linear': { ...LLAMA, rope_scaling: { type: 'linear', factor: 4 } },
  'rope_scaling llama3': {
    ...LLAMA,
    rope_scaling: {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 32,
    },
  },
  'rope_scaling yarn': {
    ...LLAMA,
    head_dim: 16,
    rope_scaling: { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 200, beta_fast: 8, beta_slow: 2 },
  },
};

describe('Llama gives the logits of a plain float64 forward pass', () => {
  it.each(Object.entries(VARIANTS))('%s', async (_, config) => {
    const weights = llamaWeights(config);
    const model = await loadModel(await checkpoint(config, weights));
    for (const seq of [1, 2, 7, 33]) {
      const ids = idsOf(seq, 40);
      expectClose(logitsOf(model, [ids]), [llamaLogits(config, weights, ids)]);
    }
    model.dispose();
  });

  it('rope_parameters in place of rope_theta and rope_scaling', async () => {
    const old = VARIANTS['rope_scaling llama3'];
    const { rope_theta, rope_scaling, ...rest } = old;
    const { rope_type: type, ...factors } = rope_scaling as { rope_type: string };
    for (const config of [
      { ...rest, rope_parameters: { ...(rope_scaling as object), rope_theta } },
      { ...rest, rope_parameters: { ...factors, type, rope_theta } },
      { ...rest, rope_scaling: { ...factors, type, rope_theta }, rope_parameters: { rope_type: 'default' } },
    ]) {
      const weights = llamaWeights(config);
      const model = await loadModel(await checkpoint(config, weights));
      const ids = idsOf(33, 40);
      expectClose(logitsOf(model, [ids]), [llamaLogits(old, weights, ids)]);
      model.dispose();
    }
  });

  it('a batch row by row', async () => {
    const weights = llamaWeights(LLAMA);
    const model = await loadModel(await checkpoint(LLAMA, weights));
    const batch = [idsOf(9, 40), idsOf(9, 40, 5)];
    expectClose(
      logitsOf(model, batch),
      batch.map((ids) => llamaLogits(LLAMA, weights, ids)),
    );
    model.dispose();
  });
});

const ENCODINGS: Record<string, (rng: Rng) => PositionEncoding | undefined> = {
  'its own RoPE': () => undefined,
  ALiBi: () => new Alibi({ heads: 4 }),
  NoPE: () => new Nope(),
  sinusoidal: () => new Sinusoidal({ dim: 32 }),
  'T5 bias': (rng) => new T5RelativeBias({ heads: 4, rng, std: 1 }),
};

describe.each(Object.entries(ENCODINGS))('with %s', (_, encoding) => {
  it('cached decoding equals the full pass, in pieces of any size', () => {
    const rng = new Rng(3);
    const model = new Llama({ ...LLAMA, initializer_range: 0.3 }, { rng, encoding: encoding(rng) }).eval();
    const ids = idsOf(12, 40);
    const full = logitsOf(model, [ids]);
    expectClose(cachedLogits(model, ids, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]), full);
    expectClose(cachedLogits(model, ids, [7, 1, 4]), full);
    model.dispose();
  });
});

it('the encodings give different logits', () => {
  const all = Object.values(ENCODINGS).map((encoding) => {
    const model = new Llama({ ...LLAMA, initializer_range: 0.3 }, { rng: new Rng(3), encoding: encoding(new Rng(4)) });
    const logits = logitsOf(model.eval(), [idsOf(6, 40)]);
    model.dispose();
    return JSON.stringify(logits);
  });
  expect(new Set(all).size).toBe(all.length);
});

it("an encoding's parameters are the model's", () => {
  const rng = new Rng(0);
  const model = new Llama(LLAMA, { rng, encoding: new T5RelativeBias({ heads: 4, rng }) });
  expect([...model.trainableParameters().keys()]).toContain('model.encoding.relative_attention_bias.weight');
});

it('gives the last token alone when asked, and leaves no tensor', () => {
  const model = new Llama(LLAMA, { rng: new Rng(0) }).eval();
  const ids = [idsOf(5, 40)];
  const full = logitsOf(model, ids);
  const before = memory().numTensors;
  expectClose(logitsOf(model, ids, { lastOnly: true }), [full[0].slice(-1)]);
  expect(memory().numTensors).toBe(before);
  model.dispose();
  expect(memory().numTensors).toBe(0);
});

it('takes positions, of which only the differences count', () => {
  const model = new Llama({ ...LLAMA, initializer_range: 0.3 }, { rng: new Rng(0) }).eval();
  const positions = tensor1d([17, 18, 19, 20, 21], 'int32');
  const ids = [idsOf(5, 40)];
  expectClose(logitsOf(model, ids, { positions }), logitsOf(model, ids));
  positions.dispose();
});

it('refuses what is no batch of token ids', () => {
  const model = new Llama(LLAMA, { rng: new Rng(0) });
  expect(() => model.apply(tensor2d([[1, 2]]))).toThrow(ShapeError);
  expect(() => model.apply(tensor1d([1, 2], 'int32'))).toThrow('not int32 [2]');
});
