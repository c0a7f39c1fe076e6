import { type RopeModelConfig, ropeFromConfig } from '@ashlar/encodings';
import {
  activation,
  activationNames,
  attend,
  Embedding,
  type Initializer,
  type KeyValueCache,
  Linear,
  mergeHeads,
  normal_,
  RMSNorm,
  splitHeads,
} from '@ashlar/nn';
import { add, FormatError, Module, mul, type PositionEncoding, type Rng, type Tensor } from '@ashlar/tensor';
import { CausalLM, type CausalLMInput, lastToken } from './causal-lm.ts';
import { ConfigReader } from './config.ts';

/** The fields of a Llama `config.json` that the model depends on. */
export interface LlamaConfig {
  readonly model_type: 'llama';
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  /** Fewer than `num_attention_heads` is grouped-query attention. */
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly max_position_embeddings: number;
  readonly hidden_act: string;
  readonly rms_norm_eps: number;
  readonly rope_theta: number;
  readonly rope_scaling?: RopeModelConfig['rope_scaling'];
  readonly rope_parameters?: RopeModelConfig['rope_parameters'];
  readonly attention_bias: boolean;
  readonly mlp_bias: boolean;
  readonly tie_word_embeddings: boolean;
  readonly initializer_range: number;
}

/** Checks a `config.json` and fills in Hugging Face's defaults. @throws FormatError naming the file and the field. */
export function llamaConfig(json: unknown, source?: string): LlamaConfig {
  const read = new ConfigReader(json, source);
  const hidden_size = read.size('hidden_size');
  const num_attention_heads = read.size('num_attention_heads');
  const num_key_value_heads = read.size('num_key_value_heads', num_attention_heads);
  if (num_attention_heads % num_key_value_heads !== 0) {
    throw new FormatError(
      `${read.source}: num_key_value_heads is ${num_key_value_heads}; it must divide num_attention_heads, ${num_attention_heads}.`,
    );
  }
  const rope = { rope_scaling: read.raw('rope_scaling'), rope_parameters: read.raw('rope_parameters') };
  for (const [name, value] of Object.entries(rope)) {
    if (value !== undefined && typeof value !== 'object') {
      throw new FormatError(`${read.source}: ${name} is ${JSON.stringify(value)}; it must be an object or null.`);
    }
  }
  return {
    model_type: 'llama',
    vocab_size: read.size('vocab_size'),
    hidden_size,
    intermediate_size: read.size('intermediate_size'),
    num_hidden_layers: read.size('num_hidden_layers', undefined, 1000),
    num_attention_heads,
    num_key_value_heads,
    head_dim: read.size('head_dim', hidden_size / num_attention_heads),
    max_position_embeddings: read.size('max_position_embeddings', 2048),
    hidden_act: read.choice('hidden_act', 'silu', activationNames),
    rms_norm_eps: read.positive('rms_norm_eps', 1e-6),
    rope_theta: read.positive('rope_theta', 10000),
    ...(rope as Pick<LlamaConfig, 'rope_scaling' | 'rope_parameters'>),
    attention_bias: read.flag('attention_bias', false),
    mlp_bias: read.flag('mlp_bias', false),
    tie_word_embeddings: read.flag('tie_word_embeddings', false),
    initializer_range: read.positive('initializer_range', 0.02),
  };
}

/** What every layer of one forward pass shares. */
interface Pass {
  qPositions: Tensor;
  kPositions: Tensor;
  cache?: KeyValueCache;
}

interface Parts {
  config: LlamaConfig;
  encoding: PositionEncoding;
  init: Initializer;
}

class LlamaAttention extends Module<[Tensor, Pass]> {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;
  readonly #config: LlamaConfig;
  readonly #encoding: PositionEncoding;
  readonly #layer: number;

  constructor({ config, encoding, init }: Parts, layer: number, rng: Rng) {
    super();
    const { hidden_size, num_attention_heads, num_key_value_heads, head_dim, attention_bias: bias } = config;
    const linear = (inFeatures: number, outFeatures: number, name: string): Linear =>
      new Linear(inFeatures, outFeatures, { bias, init, rng: rng.fork(name) });
    this.q_proj = linear(hidden_size, num_attention_heads * head_dim, 'q_proj');
    this.k_proj = linear(hidden_size, num_key_value_heads * head_dim, 'k_proj');
    this.v_proj = linear(hidden_size, num_key_value_heads * head_dim, 'v_proj');
    this.o_proj = linear(num_attention_heads * head_dim, hidden_size, 'o_proj');
    this.#config = config;
    this.#encoding = encoding;
    this.#layer = layer;
  }

  override forward(x: Tensor, { qPositions, kPositions, cache }: Pass): Tensor {
    const { num_attention_heads, num_key_value_heads } = this.#config;
    const q = splitHeads(this.q_proj.apply(x), num_attention_heads);
    const ownK = splitHeads(this.k_proj.apply(x), num_key_value_heads);
    const ownV = splitHeads(this.v_proj.apply(x), num_key_value_heads);
    const { k, v } = cache?.append(this.#layer, ownK, ownV) ?? { k: ownK, v: ownV };
    const encoding = this.#encoding;
    const mixed = attend(q, k, v, { encoding, qPositions, kPositions, layer: this.#layer, causal: true });
    return this.o_proj.apply(mergeHeads(mixed));
  }
}

class LlamaMlp extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;
  readonly #activation: (x: Tensor) => Tensor;

  constructor({ config, init }: Parts, rng: Rng) {
    super();
    const { hidden_size, intermediate_size, mlp_bias: bias } = config;
    const linear = (inFeatures: number, outFeatures: number, name: string): Linear =>
      new Linear(inFeatures, outFeatures, { bias, init, rng: rng.fork(name) });
    this.gate_proj = linear(hidden_size, intermediate_size, 'gate_proj');
    this.up_proj = linear(hidden_size, intermediate_size, 'up_proj');
    this.down_proj = linear(intermediate_size, hidden_size, 'down_proj');
    this.#activation = activation(config.hidden_act);
  }

  override forward(x: Tensor): Tensor {
    return this.down_proj.apply(mul(this.#activation(this.gate_proj.apply(x)), this.up_proj.apply(x)));
  }
}

class LlamaDecoderLayer extends Module<[Tensor, Pass]> {
  readonly input_layernorm: RMSNorm;
  readonly self_attn: LlamaAttention;
  readonly post_attention_layernorm: RMSNorm;
  readonly mlp: LlamaMlp;

  constructor(parts: Parts, layer: number, rng: Rng) {
    super();
    const { hidden_size, rms_norm_eps: eps } = parts.config;
    this.input_layernorm = new RMSNorm(hidden_size, { eps });
    this.self_attn = new LlamaAttention(parts, layer, rng.fork('self_attn'));
    this.post_attention_layernorm = new RMSNorm(hidden_size, { eps });
    this.mlp = new LlamaMlp(parts, rng.fork('mlp'));
  }

  override forward(x: Tensor, pass: Pass): Tensor {
    const y = add(x, this.self_attn.apply(this.input_layernorm.apply(x), pass));
    return add(y, this.mlp.apply(this.post_attention_layernorm.apply(y)));
  }
}

class LlamaModel extends Module<[Tensor, Pass]> {
  readonly embed_tokens: Embedding;
  readonly layers: LlamaDecoderLayer[];
  readonly norm: RMSNorm;
  readonly #encoding: PositionEncoding;

  constructor(parts: Parts, rng: Rng) {
    super();
    const { vocab_size, hidden_size, num_hidden_layers, rms_norm_eps: eps } = parts.config;
    this.#encoding = parts.encoding;
    this.embed_tokens = new Embedding(vocab_size, hidden_size, { init: parts.init, rng: rng.fork('embed_tokens') });
    this.layers = Array.from(
      { length: num_hidden_layers },
      (_, i) => new LlamaDecoderLayer(parts, i, rng.fork('layers').fork(i)),
    );
    this.norm = new RMSNorm(hidden_size, { eps });
  }

  override forward(ids: Tensor, pass: Pass): Tensor {
    let x = this.embed_tokens.apply(ids);
    if (this.#encoding.embed !== undefined) x = add(x, this.#encoding.embed(pass.qPositions));
    for (const layer of this.layers) x = layer.apply(x, pass);
    return this.norm.apply(x);
  }
}

/**
 * Llama with a language-modelling head, under Hugging Face's parameter names (`model.layers.0.self_attn.q_proj.weight`).
 * Source: Touvron et al. 2023, arXiv 2302.13971; Llama 3: arXiv 2407.21783.
 */
export class Llama extends CausalLM {
  readonly config: LlamaConfig;
  readonly model: LlamaModel;
  readonly lm_head: Linear;

  /**
   * @param config a `config.json`, checked and filled in as by `llamaConfig`.
   * @param options.encoding in place of the config's rotary one.
   */
  constructor(config: unknown, options: { rng: Rng; encoding?: PositionEncoding }) {
    super();
    this.config = llamaConfig(config);
    const { vocab_size, hidden_size, initializer_range, tie_word_embeddings } = this.config;
    const { rng, encoding = ropeFromConfig(this.config) } = options;
    const init = normal_({ std: initializer_range });
    this.model = new LlamaModel({ config: this.config, encoding, init }, rng.fork('model'));
    this.lm_head = new Linear(hidden_size, vocab_size, { bias: false, init, rng: rng.fork('lm_head') });
    if (tie_word_embeddings) this.lm_head.weight = this.model.embed_tokens.weight;
  }

  override get contextLength(): number {
    return this.config.max_position_embeddings;
  }

  override forward(ids: Tensor, input: CausalLMInput = {}): Tensor {
    const hidden = this.model.apply(ids, { ...this.positions(ids.shape[1] as number, input), cache: input.cache });
    return this.lm_head.apply(input.lastOnly ? lastToken(hidden) : hidden);
  }
}
