import { LearnedAbsolute } from '@ashlar/encodings';
import {
  activation,
  activationNames,
  attend,
  Conv1D,
  Dropout,
  Embedding,
  type KeyValueCache,
  LayerNorm,
  Linear,
  mergeHeads,
  normal_,
  splitHeads,
} from '@ashlar/nn';
import { add, FormatError, Module, type PositionEncoding, type Rng, split, type Tensor } from '@ashlar/tensor';
import { CausalLM, type CausalLMInput, lastToken } from './causal-lm.ts';
import { ConfigReader } from './config.ts';

/** The fields of a GPT-2 `config.json` that the model depends on. */
export interface Gpt2Config {
  readonly model_type: 'gpt2';
  readonly vocab_size: number;
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
}

/** Checks a `config.json` and fills in Hugging Face's defaults. @throws FormatError naming the file and the field. */
export function gpt2Config(json: unknown, source?: string): Gpt2Config {
  const read = new ConfigReader(json, source);
  const n_embd = read.size('n_embd', 768);
  const n_head = read.size('n_head', 12);
  if (n_embd % n_head !== 0) {
    throw new FormatError(`${read.source}: n_head is ${n_head}; it must divide n_embd, ${n_embd}.`);
  }
  return {
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
  };
}

/** What every layer of one forward pass shares. */
interface Pass {
  qPositions: Tensor;
  kPositions: Tensor;
  cache?: KeyValueCache;
}

class Gpt2Attention extends Module<[Tensor, Pass]> {
  readonly c_attn: Conv1D;
  readonly c_proj: Conv1D;
  readonly attn_dropout: Dropout;
  readonly resid_dropout: Dropout;
  readonly #heads: number;
  readonly #encoding: PositionEncoding;
  readonly #layer: number;

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
  }

  override forward(x: Tensor, { qPositions, kPositions, cache }: Pass): Tensor {
    const [q, ownK, ownV] = split(this.c_attn.apply(x), 3, 2).map((part) => splitHeads(part, this.#heads));
    const { k, v } = cache?.append(this.#layer, ownK, ownV) ?? { k: ownK, v: ownV };
    const mixed = attend(q, k, v, {
      encoding: this.#encoding,
      qPositions,
      kPositions,
      layer: this.#layer,
      causal: true,
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
  /** The learned positions; absent where another encoding takes their place. */
  readonly wpe?: LearnedAbsolute;
  readonly drop: Dropout;
  readonly h: Gpt2Block[];
  readonly ln_f: LayerNorm;
  readonly #encoding: PositionEncoding;

  constructor(config: Gpt2Config, rng: Rng, encoding?: PositionEncoding) {
    super();
    const { vocab_size, n_positions, n_embd, n_layer, initializer_range: std, layer_norm_epsilon: eps } = config;
    this.wte = new Embedding(vocab_size, n_embd, { init: normal_({ std }), rng: rng.fork('wte') });
    if (encoding === undefined) {
      this.wpe = new LearnedAbsolute({ maxPositions: n_positions, dim: n_embd, std, rng: rng.fork('wpe') });
    }
    this.#encoding = encoding ?? (this.wpe as LearnedAbsolute);
    this.drop = new Dropout(config.embd_pdrop, rng.fork('drop'));
    this.h = Array.from({ length: n_layer }, (_, i) => new Gpt2Block(config, this.#encoding, i, rng.fork('h').fork(i)));
    this.ln_f = new LayerNorm(n_embd, { eps });
  }

  override forward(ids: Tensor, pass: Pass): Tensor {
    let x = this.wte.apply(ids);
    if (this.#encoding.embed !== undefined) x = add(x, this.#encoding.embed(pass.qPositions));
    x = this.drop.apply(x);
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
   * @param config a `config.json`, checked and filled in as by `gpt2Config`.
   * @param options.encoding in place of the learned positions.
   */
  constructor(config: unknown, options: { rng: Rng; encoding?: PositionEncoding }) {
    super();
    this.config = gpt2Config(config);
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
    const pass = { ...this.positions(ids.shape[1] as number, input), cache: input.cache };
    const hidden = this.transformer.apply(ids, pass);
    return this.lm_head.apply(input.lastOnly ? lastToken(hidden) : hidden);
  }
}
