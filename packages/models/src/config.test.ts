import '@tensorflow/tfjs-backend-cpu';
import { MdTpe, Rope } from '@ashlar/encodings';
import { AshlarError, ConfigError, FormatError, memory, type PositionEncoding, Rng, setBackend } from '@ashlar/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { gpt2Config } from './gpt2.ts';
import { llamaConfig } from './llama.ts';
import { createModel } from './registry.ts';
import { GPT2, LLAMA } from './testing/checkpoint.ts';

beforeAll(() => setBackend('cpu'));

const create = (config: unknown): void => {
  createModel(config, { rng: new Rng(0), source: 'there/config.json' });
};

/** Field, and values that it may not have. */
type Cases = readonly (readonly [field: string, ...bad: unknown[]])[];

const COUNTS = [0, -1, 1.5, 2 ** 53, 1e300, '32', true, [], {}];

const BAD_LLAMA: Cases = [
  ['vocab_size', undefined, null, ...COUNTS],
  ['hidden_size', undefined, ...COUNTS],
  ['intermediate_size', undefined, ...COUNTS],
  ['num_hidden_layers', undefined, 1001, ...COUNTS],
  ['num_attention_heads', undefined, 3, ...COUNTS],
  ['num_key_value_heads', 3, 8, ...COUNTS],
  ['head_dim', 2 ** 17, ...COUNTS],
  ['max_position_embeddings', ...COUNTS],
  ['hidden_act', 'none', 'toString', 1, ['silu']],
  ['rms_norm_eps', 0, -1e-6, '1e-6', true],
  ['rope_theta', 0, '10000', -5],
  ['rope_scaling', 'linear', 3, [], { rope_type: 5 }, { factor: '4' }, { rope_type: 'yarn', factor: {} }],
  ['rope_parameters', 'linear', 3, [], { rope_theta: '4' }],
  ['attention_bias', 'false', 0],
  ['attention_dropout', 1, -0.1, '0'],
  ['mlp_bias', 'false', 1],
  ['tie_word_embeddings', 'true', 1],
  ['initializer_range', 0, '0.02'],
  ['eos_token_id', 'end', 1.5, [1, 'end'], {}],
];

const BAD_GPT2: Cases = [
  ['vocab_size', ...COUNTS],
  ['n_positions', ...COUNTS],
  ['n_embd', 33, ...COUNTS],
  ['n_layer', 1001, ...COUNTS],
  ['n_head', 5, ...COUNTS],
  ['n_inner', ...COUNTS],
  ['activation_function', 'gelu_newer', 1],
  ['resid_pdrop', 1, -0.1, '0.1'],
  ['embd_pdrop', 1, -0.1],
  ['attn_pdrop', 1, -0.1],
  ['layer_norm_epsilon', 0, '1e-5'],
  ['initializer_range', -1],
  ['tie_word_embeddings', 'true'],
  ['scale_attn_weights', 1],
  ['scale_attn_by_inverse_layer_idx', 'no'],
  ['add_cross_attention', true, 'no'],
  ['eos_token_id', 'end'],
];

describe.each([
  ['llama', LLAMA, BAD_LLAMA],
  ['gpt2', GPT2, BAD_GPT2],
])('a %s config', (_, good, cases) => {
  it.each(cases.flatMap(([field, ...bad]) => bad.map((value): [string, unknown] => [field, value])))(
    'refuses %s %j, naming file and field',
    (field, value) => {
      let error: unknown;
      try {
        create({ ...good, [field]: value });
      } catch (reason) {
        error = reason;
      }
      expect(error).toBeInstanceOf(FormatError);
      const { message } = error as FormatError;
      expect(message).toContain('there/config.json: ');
      // Sizes that must fit each other may be named by either of them.
      expect(message).toMatch(new RegExp(field === 'n_embd' ? 'n_embd|n_head' : `\\b${field}\\b`));
      expect(message.length).toBeLessThan(400);
    },
  );

  it('is a ConfigError where there is no file', () => {
    expect(() => createModel({ ...good, vocab_size: 0 }, { rng: new Rng(0) })).toThrow(ConfigError);
    expect(() => createModel({ ...good, model_type: 'bert' }, { rng: new Rng(0) })).toThrow(ConfigError);
  });

  it('gives a model or one error, whatever the fields', () => {
    const known = cases.map(([field]) => field);
    const scaling = fc.dictionary(
      fc.constantFrom('rope_type', 'type', 'factor', 'rope_theta', 'beta_fast', 'low_freq_factor', 'truncate'),
      fc.oneof(fc.constantFrom('linear', 'llama3', 'yarn', 'dynamic', 'ntk_by_parts'), fc.jsonValue()),
    );
    const value = fc.oneof(fc.jsonValue(), fc.integer(), fc.integer({ min: 1, max: 2 ** 24 }), scaling);
    const changes = fc.dictionary(fc.constantFrom(...known), value, { minKeys: 1, maxKeys: 4 });
    const before = memory().numTensors;
    fc.assert(
      fc.property(changes, (changed) => {
        try {
          create({ ...good, ...changed });
        } catch (error) {
          expect(error).toBeInstanceOf(AshlarError);
        }
        expect(memory().numTensors).toBe(before);
      }),
      { numRuns: 300 },
    );
  });
});

it('a config of the largest sizes costs nothing until its weights are read', () => {
  const largest = 2 ** 24;
  const started = process.memoryUsage();
  create({
    ...LLAMA,
    vocab_size: largest,
    hidden_size: largest,
    intermediate_size: largest,
    num_attention_heads: largest,
    num_key_value_heads: largest,
    head_dim: 2 ** 16,
    max_position_embeddings: largest,
  });
  create({ ...GPT2, vocab_size: largest, n_embd: largest, n_positions: largest, n_head: 1, n_inner: largest });
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  expect(arrayBuffers + heapUsed - started.arrayBuffers - started.heapUsed).toBeLessThan(64e6);
});

it('fills in the defaults of transformers', () => {
  expect(gpt2Config({})).toMatchObject({
    vocab_size: 50257,
    n_positions: 1024,
    n_embd: 768,
    n_layer: 12,
    n_head: 12,
    n_inner: 3072,
    activation_function: 'gelu_new',
    tie_word_embeddings: true,
  });
  const sizes = { vocab_size: 8, hidden_size: 64, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 4 };
  expect(llamaConfig(sizes)).toMatchObject({
    num_key_value_heads: 4,
    head_dim: 16,
    max_position_embeddings: 2048,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    rope_scaling: null,
    attention_bias: false,
    tie_word_embeddings: false,
  });
});

it.each([LLAMA, GPT2])('refuses what is no position encoding ($model_type)', (config) => {
  const rng = new Rng(0);
  for (const [encoding, problem] of [
    ['rope', 'encoding is "rope"'],
    [null, 'encoding is null'],
    [Rope, 'encoding is the function or class Rope itself'],
    [new MdTpe({ dim: 32, heads: 4, rng }), 'encoding is a MdTpe, which has none of embed, rotate, bias, scores'],
  ]) {
    const make = (): unknown => createModel(config, { rng, encoding: encoding as PositionEncoding, source: 'there' });
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(problem as string);
  }
  expect(() => createModel(config, { rng, encoding: {} })).not.toThrow();
});
