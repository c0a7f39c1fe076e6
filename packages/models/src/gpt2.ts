import { LearnedAbsolute } from '@ashlar/encodings';
import {
  activation,
  activationNames,
  attend,
  Conv1D,
  Dropout,
  Embedding,
  embedPositions,
  LayerNorm,
  Linear,
  mergeHeads,
  normal_,
  splitHeads,
} from '@ashlar/nn';
import { add, Module, type PositionEncoding, type Rng, split, type Tensor } from '@ashlar/tensor';
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

/** The fields of a GPT-2 `config.json` that the model depends on; others are kept as they came. */
export interface Gpt2Config extends CausalLMConfig {
  readonly model_type: 'gpt2';
  readonly n_positions: number;
  readonly n_embd: number;
  readonly n_layer: number;
  readonly n_head: number;
  readonly n_inner: number;
  readonly activation_function: string;
  readonly resid_pdrop: number;
  readonly embd_pdrop: number;
  readonly attn_pdrop: number;
  readonly layer_norm_epsilon: number;
  readonly initializer_range: number;
  readonly tie_word_embeddings: boolean;
  /** Whether logits are divided by the square root of a head's width. */
  readonly scale_attn_weights: boolean;
  /** Whether those of layer `i` are also divided by `i + 1`. */
  readonly scale_attn_by_inverse_layer_idx: boolean;
}

/**
 * Checks a `config.json` and fills in Hugging Face's defaults.
 * @param source the file, if there is one. @throws FormatError naming it and the field; without one ConfigError.
 */
export function gpt2Config(json: unknown, source?: string): Gpt2Config {
  const read = new ConfigReader(json, source);
  const n_embd = read.size('n_embd', 768);
  const n_head = read.size('n_head', 12);
  if (n_embd % n_head !== 0) throw read.refuse('n_head', n_head, `a divisor of n_embd, ${n_embd}`);
  if (read.flag('add_cross_attention', false)) throw read.refuse('add_cross_attention', true, 'false');
  return {
    ...read.fields,
    model_type: 'gpt2',
    vocab_size: read.size('vocab_size', 50257),
    n_positions: read.size('n_positions', 1024),
    n_embd,
    n_layer: read.size('n_layer', 12, 1000),
    n_head,
    n_inner: read.size('n_inner', 4 * n_embd),
    activation_function: read.choice('activation_function', 'gelu_new', activationNames),
    resid_pdrop: read.probability('resid_pdrop', 0.1),
    embd_pdrop: read.probability('embd_pdrop', 0.1),
    attn_pdrop: read.probability('attn_pdrop', 0.1),
    layer_norm_epsilon: read.positive('layer_norm_epsilon', 1e-5),
    initializer_range: read.positive('initializer_range', 0.02),
    tie_word_embeddings: read.flag('tie_word_embeddings', true),
    scale_attn_weights: read.flag('scale_attn_weights', true),
    scale_attn_by_inverse_layer_idx: read.flag('scale_attn_by_inverse_layer_idx', false),
    eos_token_id: read.tokens('eos_token_id'),
  };
}

class Gpt2Attention extends Module<[Tensor, Pass]> {
  readonly c_attn: Conv1D;
  readonly c_proj: Conv1D;
  readonly attn_dropout: Dropout;
  readonly resid_dropout: Dropout;
  readonly #heads: number;
  readonly #encoding: PositionEncoding;
  readonly #layer: number;
  readonly #scale: number;

  constructor(config: Gpt2Config, encoding: PositionEncoding, layer: number, rng: Rng) {
    super();
    const { n_embd, n_head, n_layer, initializer_range: std, attn_pdrop, resid_pdrop } = config;
    this.c_attn = new Conv1D(n_embd, 3 * n_embd, { init: normal_({ std }), rng: rng.fork('c_attn') });
    // Residual projections start smaller, as their outputs add up over the layers.
    const init = normal_({ std: std / Math.sqrt(2 * n_layer) });
    this.c_proj = new Conv1D(n_embd, n_embd, { init, rng: rng.fork('c_proj') });
    this.attn_dropout = new Dropout(attn_pdrop, rng.fork('attn_dropout'));
    this.resid_dropout = new Dropout(resid_pdrop, rng.fork('resid_dropout'));
    this.#heads = n_head;
    this.#encoding = encoding;
    this.#layer = layer;
    const width = config.scale_attn_weights ? Math.sqrt(n_embd / n_head) : 1;
    this.#scale = 1 / (config.scale_attn_by_inverse_layer_idx ? width * (layer + 1) : width);
  }

  override forward(x: Tensor, { positions, cache }: Pass): Tensor {
    const [q, keys, values] = split(this.c_attn.apply(x), 3, 2).map((part) => splitHeads(part, this.#heads));
    const all = cache?.append(this.#layer, keys, values, positions) ?? { keys, values, positions };
    const mixed = attend(q, all.keys, all.values, {
      encoding: this.#encoding,
      qPositions: positions,
      kPositions: all.positions,
      layer: this.#layer,
      causal: true,
      scale: this.#scale,
      dropout: this.attn_dropout,
    });
    return this.resid_dropout.apply(this.c_proj.apply(mergeHeads(mixed)));
  }
}

class Gpt2Mlp extends Module {
  readonly c_fc: Conv1D;
  readonly c_proj: Conv1D;
  readonly dropout: Dropout;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(config: Gpt2Config, rng: Rng) {
    super();
    const { n_embd, n_inner, n_layer, initializer_range: std, resid_pdrop } = config;
    this.c_fc = new Conv1D(n_embd, n_inner, { init: normal_({ std }), rng: rng.fork('c_fc') });
    const init = normal_({ std: std / Math.sqrt(2 * n_layer) });
    this.c_proj = new Conv1D(n_inner, n_embd, { init, rng: rng.fork('c_proj') });
    this.dropout = new Dropout(resid_pdrop, rng.fork('dropout'));
    this.#activation = activation(config.activation_function);
  }

  override forward(x: Tensor): Tensor {
    return this.dropout.apply(this.c_proj.apply(this.#activation(this.c_fc.apply(x))));
  }
}

class Gpt2Block extends Module<[Tensor, Pass]> {
  readonly ln_1: LayerNorm;
  readonly attn: Gpt2Attention;
  readonly ln_2: LayerNorm;
  readonly mlp: Gpt2Mlp;

  constructor(config: Gpt2Config, encoding: PositionEncoding, layer: number, rng: Rng) {
    super();
    const { n_embd, layer_norm_epsilon: eps } = config;
    this.ln_1 = new LayerNorm(n_embd, { eps });
    this.attn = new Gpt2Attention(config, encoding, layer, rng.fork('attn'));
    this.ln_2 = new LayerNorm(n_embd, { eps });
    this.mlp = new Gpt2Mlp(config, rng.fork('mlp'));
  }

  override forward(x: Tensor, pass: Pass): Tensor {
    const y = add(x, this.attn.apply(this.ln_1.apply(x), pass));
    return add(y, this.mlp.apply(this.ln_2.apply(y)));
  }
}

class Gpt2Model extends Module<[Tensor, Pass]> {
  readonly wte: Embedding;
  /** The learned positions; absent where `encoding` takes their place. */
  readonly wpe?: LearnedAbsolute;
  readonly encoding?: PositionEncoding;
  readonly drop: Dropout;
  readonly h: Gpt2Block[];
  readonly ln_f: LayerNorm;

  constructor(config: Gpt2Config, rng: Rng, encoding?: PositionEncoding) {
    super();
    const { vocab_size, n_positions, n_embd, n_layer, initializer_range: std, layer_norm_epsilon: eps } = config;
    this.wte = new Embedding(vocab_size, n_embd, { init: normal_({ std }), rng: rng.fork('wte') });
    const learned = new LearnedAbsolute({ maxPositions: n_positions, dim: n_embd, std, rng: rng.fork('wpe') });
    if (encoding === undefined) this.wpe = learned;
    else this.encoding = encoding;
    this.drop = new Dropout(config.embd_pdrop, rng.fork('drop'));
    this.h = Array.from(
      { length: n_layer },
      (_, i) => new Gpt2Block(config, encoding ?? learned, i, rng.fork('h').fork(i)),
    );
    this.ln_f = new LayerNorm(n_embd, { eps });
  }

  override forward(ids: Tensor, pass: Pass): Tensor {
    const encoding = (this.wpe ?? this.encoding) as PositionEncoding;
    let x = this.drop.apply(embedPositions('Gpt2', this.wte.apply(ids), encoding, pass.positions));
    for (const block of this.h) x = block.apply(x, pass);
    return this.ln_f.apply(x);
  }
}

/**
 * GPT-2 with its language-modelling head, under Hugging Face's parameter names (`transformer.h.0.attn.c_attn.weight`).
 * Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
 */
export class Gpt2 extends CausalLM {
  readonly config: Gpt2Config;
  readonly transformer: Gpt2Model;
  readonly lm_head: Linear;

  /**
   * @param config the object of a `config.json`, checked and filled in as by `gpt2Config`.
   * @param options.encoding in place of the learned positions; its parameters, if any, become the model's.
   * @param options.source the file that `config` is from, named in errors.
   * @throws ConfigError naming the field that is out of range (FormatError where there is a `source`), or if `encoding` is
   * none, or not the config's `position_encoding`.
   */
  constructor(config: unknown, options: ModelOptions) {
    super();
    this.config = withEncoding('Gpt2', gpt2Config(config, options.source), options);
    const { vocab_size, n_embd, initializer_range: std, tie_word_embeddings } = this.config;
    const { rng, encoding } = options;
    this.transformer = new Gpt2Model(this.config, rng.fork('transformer'), encoding);
    this.lm_head = new Linear(n_embd, vocab_size, { bias: false, init: normal_({ std }), rng: rng.fork('lm_head') });
    if (tie_word_embeddings) this.lm_head.weight = this.transformer.wte.weight;
  }

  override get contextLength(): number {
    return this.config.n_positions;
  }

  override forward(ids: Tensor, input: CausalLMInput = {}): Tensor {
    const hidden = this.transformer.apply(ids, this.pass(ids, input));
    return this.lm_head.apply(input.lastOnly ? lastToken(hidden) : hidden);
  }
}
