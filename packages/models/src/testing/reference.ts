/**
 * GPT-2 and Llama once more, in plain arrays and float64, sharing nothing with the packages: what the models are tested
 * against. One row per token.
 */

export interface PlainTensor {
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

export type PlainWeights = ReadonlyMap<string, PlainTensor>;

export interface PlainConfig {
  readonly [name: string]: unknown;
}

type Rows = number[][];

export function llamaLogits(config: PlainConfig, weights: PlainWeights, ids: readonly number[]): Rows {
  const heads = config.num_attention_heads as number;
  const kvHeads = (config.num_key_value_heads ?? heads) as number;
  const headDim = (config.head_dim ?? (config.hidden_size as number) / heads) as number;
  const eps = (config.rms_norm_eps ?? 1e-6) as number;
  const { frequencies, temperature } = ropeFrequencies(config, headDim);
  const linear = (x: Rows, name: string): Rows =>
    x.map((row) => outIn(row, tensor(weights, `${name}.weight`), weights.get(`${name}.bias`)));
  const norm = (x: Rows, name: string): Rows => x.map((row) => rmsNorm(row, tensor(weights, `${name}.weight`), eps));
  const rotated = (x: Rows): Rows =>
    x.map((row, position) =>
      chunks(row, headDim).flatMap((head) =>
        head.map((value, i) => {
          const pair = i % (headDim / 2);
          const other = i < headDim / 2 ? -head[i + headDim / 2] : head[pair];
          const angle = position * frequencies[pair];
          return temperature * (value * Math.cos(angle) + other * Math.sin(angle));
        }),
      ),
    );

  let x = ids.map((id) => rowOf(tensor(weights, 'model.embed_tokens.weight'), id));
  for (let layer = 0; layer < (config.num_hidden_layers as number); layer++) {
    const at = `model.layers.${layer}`;
    const h = norm(x, `${at}.input_layernorm`);
    const q = rotated(linear(h, `${at}.self_attn.q_proj`));
    const k = rotated(linear(h, `${at}.self_attn.k_proj`));
    const v = linear(h, `${at}.self_attn.v_proj`);
    x = plus(x, linear(attention(q, k, v, heads, kvHeads), `${at}.self_attn.o_proj`));
    const m = norm(x, `${at}.post_attention_layernorm`);
    const gate = linear(m, `${at}.mlp.gate_proj`).map((row) => row.map((z) => z / (1 + Math.exp(-z))));
    const up = linear(m, `${at}.mlp.up_proj`);
    const gated = gate.map((row, i) => row.map((value, j) => value * up[i][j]));
    x = plus(x, linear(gated, `${at}.mlp.down_proj`));
  }
  const head = config.tie_word_embeddings === true ? 'model.embed_tokens' : 'lm_head';
  return linear(norm(x, 'model.norm'), head);
}

export function gpt2Logits(config: PlainConfig, weights: PlainWeights, ids: readonly number[]): Rows {
  const heads = config.n_head as number;
  const eps = (config.layer_norm_epsilon ?? 1e-5) as number;
  const conv1d = (x: Rows, name: string): Rows =>
    x.map((row) => inOut(row, tensor(weights, `${name}.weight`), tensor(weights, `${name}.bias`)));
  const norm = (x: Rows, name: string): Rows =>
    x.map((row) => layerNorm(row, tensor(weights, `${name}.weight`), tensor(weights, `${name}.bias`), eps));

  let x = plus(
    ids.map((id) => rowOf(tensor(weights, 'transformer.wte.weight'), id)),
    ids.map((_, position) => rowOf(tensor(weights, 'transformer.wpe.weight'), position)),
  );
  for (let layer = 0; layer < (config.n_layer as number); layer++) {
    const at = `transformer.h.${layer}`;
    const qkv = conv1d(norm(x, `${at}.ln_1`), `${at}.attn.c_attn`);
    const [q, k, v] = [0, 1, 2].map((part) => qkv.map((row) => chunks(row, row.length / 3)[part]));
    x = plus(x, conv1d(attention(q, k, v, heads, heads), `${at}.attn.c_proj`));
    const h = conv1d(norm(x, `${at}.ln_2`), `${at}.mlp.c_fc`).map((row) => row.map(geluTanh));
    x = plus(x, conv1d(h, `${at}.mlp.c_proj`));
  }
  const head = tensor(weights, config.tie_word_embeddings === false ? 'lm_head.weight' : 'transformer.wte.weight');
  return norm(x, 'transformer.ln_f').map((row) => outIn(row, head));
}

/** The formulas of transformers' `modeling_rope_utils.py`. */
function ropeFrequencies(config: PlainConfig, dim: number): { frequencies: number[]; temperature: number } {
  const base = (config.rope_theta ?? 10000) as number;
  const plain = Array.from({ length: dim / 2 }, (_, i) => 1 / base ** ((2 * i) / dim));
  if (config.rope_scaling == null) return { frequencies: plain, temperature: 1 };
  const scaling = config.rope_scaling as Record<string, number> & { rope_type?: string; type?: string };
  const { factor, original_max_position_embeddings: original } = scaling;
  switch (scaling.rope_type ?? scaling.type) {
    case 'linear':
      return { frequencies: plain.map((f) => f / factor), temperature: 1 };
    case 'llama3': {
      const { low_freq_factor: low, high_freq_factor: high } = scaling;
      const frequencies = plain.map((f) => {
        const wavelength = (2 * Math.PI) / f;
        if (wavelength < original / high) return f;
        if (wavelength > original / low) return f / factor;
        const smooth = (original / wavelength - low) / (high - low);
        return ((1 - smooth) * f) / factor + smooth * f;
      });
      return { frequencies, temperature: 1 };
    }
    case 'yarn': {
      const pairOf = (turns: number): number =>
        (dim * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(base));
      const low = Math.max(Math.floor(pairOf(scaling.beta_fast ?? 32)), 0);
      const high = Math.min(Math.ceil(pairOf(scaling.beta_slow ?? 1)), dim - 1);
      const frequencies = plain.map((f, i) => {
        const ramp = Math.min(1, Math.max(0, (i - low) / (high === low ? 0.001 : high - low)));
        return (f / factor) * ramp + f * (1 - ramp);
      });
      return { frequencies, temperature: 0.1 * Math.log(factor) + 1 };
    }
    default:
      throw new Error(`The reference does not know ${scaling.rope_type}.`);
  }
}

/** Causal; rows are heads side by side, and consecutive query heads share a key head. */
function attention(q: Rows, k: Rows, v: Rows, heads: number, kvHeads: number): Rows {
  const headDim = q[0].length / heads;
  return q.map((row, i) =>
    chunks(row, headDim).flatMap((query, head) => {
      const of = (rows: Rows, j: number): number[] => chunks(rows[j], headDim)[Math.floor((head * kvHeads) / heads)];
      const seen = Array.from({ length: i + 1 }, (_, j) => j);
      const weights = softmax(seen.map((j) => dot(query, of(k, j)) / Math.sqrt(headDim)));
      return query.map((_, channel) =>
        dot(
          weights,
          seen.map((j) => of(v, j)[channel]),
        ),
      );
    }),
  );
}

function softmax(row: number[]): number[] {
  const highest = Math.max(...row);
  const exps = row.map((x) => Math.exp(x - highest));
  const sum = exps.reduce((a, b) => a + b);
  return exps.map((x) => x / sum);
}

function rmsNorm(row: number[], weight: PlainTensor, eps: number): number[] {
  const scale = 1 / Math.sqrt(dot(row, row) / row.length + eps);
  return row.map((x, i) => x * scale * weight.values[i]);
}

function layerNorm(row: number[], weight: PlainTensor, bias: PlainTensor, eps: number): number[] {
  const mean = row.reduce((a, b) => a + b) / row.length;
  const centred = row.map((x) => x - mean);
  const scale = 1 / Math.sqrt(dot(centred, centred) / row.length + eps);
  return centred.map((x, i) => x * scale * weight.values[i] + bias.values[i]);
}

function geluTanh(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function outIn(row: number[], weight: PlainTensor, bias?: PlainTensor): number[] {
  return Array.from({ length: weight.shape[0] }, (_, o) => dot(row, rowOf(weight, o)) + (bias?.values[o] ?? 0));
}

function inOut(row: number[], weight: PlainTensor, bias: PlainTensor): number[] {
  const [, outs] = weight.shape;
  return Array.from(
    { length: outs },
    (_, o) =>
      dot(
        row,
        row.map((_, i) => weight.values[i * outs + o]),
      ) + bias.values[o],
  );
}

function tensor(weights: PlainWeights, name: string): PlainTensor {
  const found = weights.get(name);
  if (found === undefined) throw new Error(`The reference lacks ${name}.`);
  return found;
}

function rowOf({ shape, values }: PlainTensor, row: number): number[] {
  return Array.from({ length: shape[1] }, (_, i) => values[row * shape[1] + i]);
}

function chunks(row: number[], size: number): number[][] {
  return Array.from({ length: row.length / size }, (_, i) => row.slice(i * size, (i + 1) * size));
}

function plus(a: Rows, b: Rows): Rows {
  return a.map((row, i) => row.map((x, j) => x + b[i][j]));
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, x, i) => sum + x * b[i], 0);
}
