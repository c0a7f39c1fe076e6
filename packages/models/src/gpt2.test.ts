import '@ashlar/backend-ort';
import { Alibi, Nope, Rope, Sinusoidal, T5RelativeBias } from '@ashlar/encodings';
import { memory, type PositionEncoding, Rng, setBackend } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { Gpt2 } from './gpt2.ts';
import { loadModel } from './load.ts';
import { checkpoint, GPT2, gpt2Weights } from './testing/checkpoint.ts';
import { cachedLogits, expectClose, idsOf, logitsOf } from './testing/logits.ts';
import { gpt2Logits, type PlainTensor, type PlainWeights } from './testing/reference.ts';

beforeAll(() => setBackend('ort'));

/** As OpenAI's first checkpoints: no prefix, and the causal masks among the weights. */
function withoutPrefix(weights: PlainWeights): Map<string, PlainTensor> {
  const old = new Map([...weights].map(([name, tensor]) => [name.replace(/^transformer\./, ''), tensor]));
  for (let layer = 0; layer < 2; layer++) {
    old.set(`h.${layer}.attn.bias`, { shape: [1, 1, 32, 32], values: new Float32Array(1024).fill(1) });
    old.set(`h.${layer}.attn.masked_bias`, { shape: [1], values: [-1e4] });
  }
  return old;
}

describe('GPT-2 gives the logits of a plain float64 forward pass', () => {
  const weights = gpt2Weights(GPT2);
  const untied = { ...GPT2, tie_word_embeddings: false };
  it.each([
    ['tied', GPT2, weights, weights],
    ['untied', untied, gpt2Weights(untied), gpt2Weights(untied)],
    ['without prefix and with mask buffers', GPT2, withoutPrefix(weights), weights],
    ['a tied head that is there too', GPT2, new Map([...gpt2Weights(untied), ...weights]), weights],
    ['another epsilon', { ...GPT2, layer_norm_epsilon: 0.1 }, weights, weights],
  ])('%s', async (_, config, stored, plain) => {
    const model = await loadModel(await checkpoint(config, stored));
    for (const seq of [1, 2, 7, 32]) {
      const ids = idsOf(seq, 40);
      expectClose(logitsOf(model, [ids]), [gpt2Logits(config, plain, ids)]);
    }
    model.dispose();
    expect(memory().numTensors).toBe(0);
  });
});

const ENCODINGS: Record<string, (rng: Rng) => PositionEncoding | undefined> = {
  'its own learned positions': () => undefined,
  ALiBi: () => new Alibi({ heads: 4 }),
  NoPE: () => new Nope(),
  RoPE: () => new Rope({ headDim: 8 }),
  sinusoidal: () => new Sinusoidal({ dim: 32 }),
  'T5 bias': (rng) => new T5RelativeBias({ heads: 4, rng, std: 1 }),
};

describe.each(Object.entries(ENCODINGS))('with %s', (_, encoding) => {
  it('cached decoding equals the full pass, in pieces of any size', () => {
    const rng = new Rng(3);
    const model = new Gpt2({ ...GPT2, initializer_range: 0.3 }, { rng, encoding: encoding(rng) }).eval();
    const ids = idsOf(12, 40);
    const full = logitsOf(model, [ids]);
    expectClose(cachedLogits(model, ids, Array(12).fill(1)), full);
    expectClose(cachedLogits(model, ids, [7, 1, 4]), full);
    model.dispose();
  });
});

it('has no learned positions where another encoding takes their place', () => {
  const names = [...new Gpt2(GPT2, { rng: new Rng(0), encoding: new Nope() }).namedParameters()].map(([name]) => name);
  expect(names.filter((name) => name.includes('wpe'))).toEqual([]);
});

it('divides the logits as scale_attn_weights and scale_attn_by_inverse_layer_idx say', async () => {
  // Each is the same as scaling the queries of a layer.
  const weights = gpt2Weights(GPT2);
  const scaled = (factor: (layer: number) => number): PlainWeights =>
    new Map(
      [...weights].map(([name, { shape, values }]) => {
        const [, layer, kind] = /h\.(\d)\.attn\.c_attn\.(weight|bias)/.exec(name) ?? [];
        if (kind === undefined) return [name, { shape, values }];
        const isQuery = (i: number): boolean => i % 96 < 32;
        return [name, { shape, values: Array.from(values, (x, i) => (isQuery(i) ? x * factor(Number(layer)) : x)) }];
      }),
    );
  const ids = idsOf(9, 40);
  for (const [fields, factor] of [
    [{ scale_attn_weights: false }, () => Math.sqrt(8)],
    [{ scale_attn_by_inverse_layer_idx: true }, (layer: number) => 1 / (layer + 1)],
  ] as const) {
    const model = await loadModel(await checkpoint({ ...GPT2, ...fields }, weights));
    expectClose(logitsOf(model, [ids]), [gpt2Logits(GPT2, scaled(factor), ids)]);
    model.dispose();
  }
});
