import { type RopeScaling, ropeFromConfig } from '@ashlar/encodings';
import {
  activationNames,
  attend,
  Dropout,
  Embedding,
  embedPositions,
  type Initializer,
  Linear,
  mergeHeads,
  normal_,
  RMSNorm,
  SwiGLU,
  splitHeads,
  zeros_,
} from '@ashlar/nn';
import { AshlarError, add, FormatError, Module, type PositionEncoding, type Rng, type Tensor } from '@ashlar/tensor';
import {
  CausalLM,
  type CausalLMConfig,
  type CausalLMInput,
  lastToken,
  type ModelOptions,
  type Pass,
  withEncoding,
} from './causal-lm.ts';
import { ConfigReader } from './config.ts';

/** The fields of a Llama `config.json` that the model depends on; others are kept as they came. */
export interface LlamaConfig extends CausalLMConfig {
  readonly model_type: 'llama';
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
  /** Or what a newer config has in `rope_parameters`; a base in either goes to `rope_theta`. */
  readonly rope_scaling: RopeScaling | null;
  readonly attention_bias: boolean;
  readonly attention_dropout: number;
  readonly mlp_bias: boolean;
  readonly tie_word_embeddings: boolean;
  readonly initializer_range: number;
}

/**
 * Checks a `config.json` and fills in Hugging Face's defaults.
 * @param source the file, if there is one. @throws FormatError naming it and the field; without one ConfigError.
 */
export function llamaConfig(json: unknown, source?: string): LlamaConfig {
  const read = new ConfigReader(json, source);
  const hidden_size = read.size('hidden_size');
  const num_attention_heads = read.size('num_attention_heads');
  const num_key_value_heads = read.size('num_key_value_heads', num_attention_heads);
  if (num_attention_heads % num_key_value_heads !== 0) {
    const may = `a divisor of num_attention_heads, ${num_attention_heads}`;
    throw read.refuse('num_key_value_heads', num_key_value_heads, may);
  }
  if (read.raw('head_dim') === undefined && hidden_size % num_attention_heads !== 0) {
    throw read.refuse('num_attention_heads', num_attention_heads, `a divisor of hidden_size, ${hidden_size}`);
  }
  const { rope_parameters: _, ...fields } = read.fields;
  return {
    ...fields,
    model_type: 'llama',
    vocab_size: read.size('vocab_size'),
    hidden_size,
    intermediate_size: read.size('intermediate_size'),
    num_hidden_layers: read.size('num_hidden_layers', undefined, 1000),
    num_attention_heads,
    num_key_value_heads,
    head_dim: read.size('head_dim', hidden_size / num_attention_heads, 2 ** 16),
    max_position_embeddings: read.size('max_position_embeddings', 2048),
    hidden_act: read.choice('hidden_act', 'silu', activationNames),
    rms_norm_eps: read.positive('rms_norm_eps', 1e-6),
    ...ropeFields(read),
    attention_bias: read.flag('attention_bias', false),
    attention_dropout: read.probability('attention_dropout', 0),
    mlp_bias: read.flag('mlp_bias', false),
    tie_word_embeddings: read.flag('tie_word_embeddings', false),
    initializer_range: read.positive('initializer_range', 0.02),
    eos_token_id: read.tokens('eos_token_id'),
  };
}

/** From `rope_scaling` or, where it is empty, the newer `rope_parameters`; either may hold the base. As in transformers. */
function ropeFields(read: ConfigReader): Pick<LlamaConfig, 'rope_theta' | 'rope_scaling'> {
  const name = read.record('rope_scaling') === undefined ? 'rope_parameters' : 'rope_scaling';
  const { rope_theta: own, ...scaling } = read.record(name) ?? {};
  const rope_theta = own ?? read.positive('rope_theta', 10000);
  if (typeof rope_theta !== 'number' || !(rope_theta > 1)) {
    throw read.refuse(own == null ? 'rope_theta' : `${name}.rope_theta`, rope_theta, 'a number above 1');
  }
  return { rope_theta, rope_scaling: Object.keys(scaling).length > 0 ? scaling : null };
}

function rope(config: LlamaConfig, source: string | undefined): PositionEncoding {
  try {
    // A Llama turns every channel: transformers looks at no partial_rotary_factor here.
    return ropeFromConfig(config, { fraction: 1 });
  } catch (error) {
    if (source === undefined || !(error instanceof AshlarError)) throw error;
    throw new FormatError(`${source}: ${error.message}`, { cause: error });
  }
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
  readonly dropout: Dropout;
  readonly #config: LlamaConfig;
  readonly #encoding: PositionEncoding;
  readonly #layer: number;

  constructor({ config, encoding, init }: Parts, layer: number, rng: Rng) {
    super();
    const { hidden_size, num_attention_heads, num_key_value_heads, head_dim, attention_bias: bias } = config;
    const linear = (inFeatures: number, outFeatures: number, name: string): Linear =>
      new Linear(inFeatures, outFeatures, { bias, init, biasInit: zeros_(), rng: rng.fork(name) });
    this.q_proj = linear(hidden_size, num_attention_heads * head_dim, 'q_proj');
    this.k_proj = linear(hidden_size, num_key_value_heads * head_dim, 'k_proj');
    this.v_proj = linear(hidden_size, num_key_value_heads * head_dim, 'v_proj');
    this.o_proj = linear(num_attention_heads * head_dim, hidden_size, 'o_proj');
    this.dropout = new Dropout(config.attention_dropout, rng.fork('dropout'));
    this.#config = config;
    this.#encoding = encoding;
    this.#layer = layer;
  }

  override forward(x: Tensor, { positions, cache }: Pass): Tensor {
    const { num_attention_heads, num_key_value_heads } = this.#config;
    const q = splitHeads(this.q_proj.apply(x), num_attention_heads);
    const keys = splitHeads(this.k_proj.apply(x), num_key_value_heads);
    const values = splitHeads(this.v_proj.apply(x), num_key_value_heads);
    const all = cache?.append(this.#layer, keys, values, positions) ?? { keys, values, positions };
    const mixed = attend(q, all.keys, all.values, {
      encoding: this.#encoding,
      qPositions: positions,
      kPositions: all.positions,
      layer: this.#layer,
      causal: true,
      dropout: this.dropout,
    });
    return this.o_proj.apply(mergeHeads(mixed));
  }
}

class LlamaDecoderLayer extends Module<[Tensor, Pass]> {
  readonly input_layernorm: RMSNorm;
  readonly self_attn: LlamaAttention;
  readonly post_attention_layernorm: RMSNorm;
  readonly mlp: SwiGLU;

  constructor(parts: Parts, layer: number, rng: Rng) {
    super();
    const { hidden_size, intermediate_size, rms_norm_eps: eps, hidden_act, mlp_bias: bias } = parts.config;
    this.input_layernorm = new RMSNorm(hidden_size, { eps });
    this.self_attn = new LlamaAttention(parts, layer, rng.fork('self_attn'));
    this.post_attention_layernorm = new RMSNorm(hidden_size, { eps });
    this.mlp = new SwiGLU(hidden_size, intermediate_size, {
      activation: hidden_act,
      bias,
      init: parts.init,
      biasInit: zeros_(),
      rng: rng.fork('mlp'),
    });
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
  readonly encoding: PositionEncoding;

  constructor(parts: Parts, rng: Rng) {
    super();
    const { vocab_size, hidden_size, num_hidden_layers, rms_norm_eps: eps } = parts.config;
    this.encoding = parts.encoding;
    this.embed_tokens = new Embedding(vocab_size, hidden_size, { init: parts.init, rng: rng.fork('embed_tokens') });
    this.layers = Array.from(
      { length: num_hidden_layers },
      (_, i) => new LlamaDecoderLayer(parts, i, rng.fork('layers').fork(i)),
    );
    this.norm = new RMSNorm(hidden_size, { eps });
  }

  override forward(ids: Tensor, pass: Pass): Tensor {
    let x = embedPositions('Llama', this.embed_tokens.apply(ids), this.encoding, pass.positions);
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
   * @param config the object of a `config.json`, checked and filled in as by `llamaConfig`.
   * @param options.encoding in place of the config's rotary one; its parameters, if any, become the model's.
   * @param options.source the file that `config` is from, named in errors.
   * @throws ConfigError naming the field that is out of range (FormatError where there is a `source`), or if `encoding` is
   * none, or not the config's `position_encoding`.
   */
  constructor(config: unknown, options: ModelOptions) {
    super();
    this.config = withEncoding('Llama', llamaConfig(config, options.source), options);
    const { vocab_size, hidden_size, initializer_range, tie_word_embeddings } = this.config;
    const { rng, encoding = rope(this.config, options.source) } = options;
    const init = normal_({ std: initializer_range });
    this.model = new LlamaModel({ config: this.config, encoding, init }, rng.fork('model'));
    this.lm_head = new Linear(hidden_size, vocab_size, { bias: false, init, rng: rng.fork('lm_head') });
    if (tie_word_embeddings) this.lm_head.weight = this.model.embed_tokens.weight;
  }

  override get contextLength(): number {
    return this.config.max_position_embeddings;
  }

  override forward(ids: Tensor, input: CausalLMInput = {}): Tensor {
    const hidden = this.model.apply(ids, this.pass(ids, input));
    return this.lm_head.apply(input.lastOnly ? lastToken(hidden) : hidden);
  }
}
