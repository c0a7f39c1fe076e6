import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { float32ToFloat16 } from '@ashlar/tensor';
import { onTestFinished } from 'vitest';
import type { PlainConfig, PlainTensor, PlainWeights } from './reference.ts';

/** Small enough for plain arrays; grouped queries and a `rope_theta` that puts some pairs of channels between the bands. */
export const LLAMA: PlainConfig = {
  model_type: 'llama',
  vocab_size: 40,
  hidden_size: 32,
  intermediate_size: 40,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  rope_theta: 20,
  tie_word_embeddings: false,
};

export const GPT2: PlainConfig = {
  model_type: 'gpt2',
  vocab_size: 40,
  n_positions: 32,
  n_embd: 32,
  n_layer: 2,
  n_head: 4,
};

/** The parameters of a Llama as transformers names and shapes them, drawn from `seed`. */
export function llamaWeights(config: PlainConfig, seed = 1): Map<string, PlainTensor> {
  const size = (name: string): number => config[name] as number;
  const draw = drawer(seed);
  const hidden = size('hidden_size');
  const headDim = (config.head_dim ?? hidden / size('num_attention_heads')) as number;
  const weights = new Map<string, PlainTensor>();
  const linear = (name: string, out: number, inn: number, bias: unknown): void => {
    weights.set(`${name}.weight`, draw([out, inn]));
    if (bias === true) weights.set(`${name}.bias`, draw([out]));
  };
  weights.set('model.embed_tokens.weight', draw([size('vocab_size'), hidden]));
  for (let i = 0; i < size('num_hidden_layers'); i++) {
    const at = `model.layers.${i}`;
    weights.set(`${at}.input_layernorm.weight`, draw([hidden], 1));
    for (const [name, heads] of [
      ['q_proj', 'num_attention_heads'],
      ['k_proj', 'num_key_value_heads'],
      ['v_proj', 'num_key_value_heads'],
    ]) {
      linear(`${at}.self_attn.${name}`, size(heads) * headDim, hidden, config.attention_bias);
    }
    linear(`${at}.self_attn.o_proj`, hidden, size('num_attention_heads') * headDim, config.attention_bias);
    weights.set(`${at}.post_attention_layernorm.weight`, draw([hidden], 1));
    linear(`${at}.mlp.gate_proj`, size('intermediate_size'), hidden, config.mlp_bias);
    linear(`${at}.mlp.up_proj`, size('intermediate_size'), hidden, config.mlp_bias);
    linear(`${at}.mlp.down_proj`, hidden, size('intermediate_size'), config.mlp_bias);
  }
  weights.set('model.norm.weight', draw([hidden], 1));
  if (config.tie_word_embeddings !== true) weights.set('lm_head.weight', draw([size('vocab_size'), hidden]));
  return weights;
}

/** The parameters of a GPT-2 as transformers names and shapes them. */
export function gpt2Weights(config: PlainConfig, seed = 1): Map<string, PlainTensor> {
  const draw = drawer(seed);
  const dim = config.n_embd as number;
  const weights = new Map<string, PlainTensor>();
  const pair = (name: string, shape: number[], centre = 0): void => {
    weights.set(`${name}.weight`, draw(shape, centre));
    weights.set(`${name}.bias`, draw(shape.slice(-1)));
  };
  weights.set('transformer.wte.weight', draw([config.vocab_size as number, dim]));
  weights.set('transformer.wpe.weight', draw([config.n_positions as number, dim]));
  for (let i = 0; i < (config.n_layer as number); i++) {
    const at = `transformer.h.${i}`;
    pair(`${at}.ln_1`, [dim], 1);
    pair(`${at}.attn.c_attn`, [dim, 3 * dim]);
    pair(`${at}.attn.c_proj`, [dim, dim]);
    pair(`${at}.ln_2`, [dim], 1);
    pair(`${at}.mlp.c_fc`, [dim, 4 * dim]);
    pair(`${at}.mlp.c_proj`, [4 * dim, dim]);
  }
  pair('transformer.ln_f', [dim], 1);
  if (config.tie_word_embeddings === false) weights.set('lm_head.weight', draw([config.vocab_size as number, dim]));
  return weights;
}

/** Uniform around `centre`, in steps that F16 and BF16 hold exactly. */
function drawer(seed: number): (shape: number[], centre?: number) => PlainTensor {
  let state = seed;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 16;
  };
  return (shape, centre = 0) => {
    const length = shape.reduce((product, size) => product * size, 1);
    return { shape, values: Float32Array.from({ length }, () => centre + ((next() % 65) - 32) / 128) };
  };
}

export type CheckpointDtype = 'F32' | 'F16' | 'BF16';

/** The bytes of a safetensors file. */
export function safetensors(weights: PlainWeights, dtype: CheckpointDtype = 'F32'): Uint8Array {
  const header: Record<string, unknown> = {};
  const parts: Uint8Array[] = [];
  let end = 0;
  for (const [name, { shape, values }] of weights) {
    const bytes = encode(Float32Array.from(values), dtype);
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
    parts.push(bytes);
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(new BigUint64Array([BigInt(text.length)]).buffer);
  return Buffer.concat([length, text, ...parts]);
}

function encode(values: Float32Array<ArrayBuffer>, dtype: CheckpointDtype): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer);
  if (dtype === 'F16') return new Uint8Array(float32ToFloat16(values).buffer);
  const upperHalves = new Uint16Array(values.buffer).filter((_, i) => i % 2 === 1);
  return new Uint8Array(upperHalves.buffer);
}

/** A new folder that goes when the test ends. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ashlar-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A folder with `config.json` and `model.safetensors`. */
export async function checkpoint(config: unknown, weights: PlainWeights, dtype?: CheckpointDtype): Promise<string> {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  await writeFile(join(folder, 'model.safetensors'), safetensors(weights, dtype));
  return folder;
}

/** A folder whose weights lie in two files and an index. */
export async function shardedCheckpoint(config: unknown, weights: PlainWeights): Promise<string> {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  const entries = [...weights];
  const weight_map: Record<string, string> = {};
  for (const [i, part] of [entries.filter((_, i) => i % 2 === 0), entries.filter((_, i) => i % 2 === 1)].entries()) {
    const shard = `model-0000${i + 1}-of-00002.safetensors`;
    for (const [name] of part) weight_map[name] = shard;
    await writeFile(join(folder, shard), safetensors(new Map(part)));
  }
  await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map }));
  return folder;
}
