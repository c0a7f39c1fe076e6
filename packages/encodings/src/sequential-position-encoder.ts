import {
  activation,
  attend,
  Conv1D,
  Dropout,
  Embedding,
  type Initializer,
  LayerNorm,
  Linear,
  mergeHeads,
  splitHeads,
  truncNormal_,
  zeros_,
} from '@ashlar/nn';
import {
  add,
  ConfigError,
  cast,
  checkChoice,
  checkInteger,
  checkNumber,
  checkOptions,
  checkRng,
  concat,
  expandDims,
  Module,
  mul,
  Parameter,
  type Rng,
  reshape,
  slice,
  split,
  type Tensor,
  tidy,
  tile,
} from '@ashlar/tensor';
import {
  checkDigits,
  checkPlaces,
  type DigitMaskOptions,
  digitAttentionMask,
  digitsOf,
  placesOf,
} from './position-digits.ts';

export interface SequentialPositionEncoderOptions extends DigitMaskOptions {
  /** Width. */
  readonly dim: number;
  /** Of the result. Default `dim`. */
  readonly outDim?: number;
  /** Default `dim / 64`. */
  readonly heads?: number;
  /** Default 2. */
  readonly layers?: number;
  /** Digits of a coordinate. */
  readonly maxDigits: number;
  /** Coordinates of a position. Default 1. */
  readonly axes?: number;
  /** Default 10. */
  readonly base?: number;
  /** Whether the last token is normalized before it is projected. Default true. */
  readonly finalNorm?: boolean;
  /** Divides the result. Default 1. */
  readonly temperature?: number;
  /** Of the hidden units, by its name in `activationNames` of `@ashlar/nn`. Default `'gelu_new'`. */
  readonly activation?: string;
  /** Of the norms. Default 1e-5. */
  readonly eps?: number;
  /** On what each sublayer adds. Default 0.1. */
  readonly dropout?: number;
  /** On the attention weights. Default 0. */
  readonly attentionDropout?: number;
  readonly rng: Rng;
  /** Of all matrices, embeddings and the summary token. Default a truncated normal of standard deviation 0.02. */
  readonly init?: Initializer;
}

/** `x += attn(norm1(x)); x += mlp(norm2(x))`, in GPT-2's layout. */
class Block extends Module<[Tensor, Tensor]> {
  readonly layernorm_1: LayerNorm;
  readonly attn: { readonly c_attn: Conv1D; readonly c_proj: Conv1D };
  readonly layernorm_2: LayerNorm;
  readonly mlp: { readonly c_fc: Conv1D; readonly c_proj: Conv1D };
  readonly dropout: Dropout;
  readonly attn_dropout: Dropout;
  readonly #activation: (x: Tensor) => Tensor;
  readonly #heads: number;

  constructor(options: SequentialPositionEncoderOptions & { readonly heads: number; readonly init: Initializer }) {
    super();
    const { dim, heads, eps, dropout = 0.1, attentionDropout = 0, init, rng } = options;
    const conv = (from: number, to: number, name: string): Conv1D =>
      new Conv1D(from, to, { init, rng: rng.fork(name) });
    this.layernorm_1 = new LayerNorm(dim, { eps });
    this.attn = { c_attn: conv(dim, 3 * dim, 'c_attn'), c_proj: conv(dim, dim, 'attn.c_proj') };
    this.layernorm_2 = new LayerNorm(dim, { eps });
    this.mlp = { c_fc: conv(dim, 4 * dim, 'c_fc'), c_proj: conv(4 * dim, dim, 'mlp.c_proj') };
    this.dropout = new Dropout(dropout, rng.fork('dropout'));
    this.attn_dropout = new Dropout(attentionDropout, rng.fork('attn_dropout'));
    this.#activation = activation(options.activation ?? 'gelu_new');
    this.#heads = heads;
  }

  override forward(x: Tensor, mask: Tensor): Tensor {
    const { attn, mlp, dropout } = this;
    const [q, k, v] = split(attn.c_attn.apply(this.layernorm_1.apply(x)), 3, 2).map((y) => splitHeads(y, this.#heads));
    const mixed = mergeHeads(attend(q, k, v, { mask, dropout: this.attn_dropout }));
    const y = add(x, dropout.apply(attn.c_proj.apply(mixed)));
    const hidden = this.#activation(mlp.c_fc.apply(this.layernorm_2.apply(y)));
    return add(y, dropout.apply(mlp.c_proj.apply(hidden)));
  }
}

/**
 * Reads positions digit by digit: token `s` is `T[digit_s] + U[s] (+ C[coordinate of s])`, a summary token comes last, and
 * `layers` pre-norm Transformer blocks later the last token `x` gives `e = (O x + b) / temperature`. Parameters have the
 * names of the official code.
 *
 * Source: SeqPE (2025, arXiv 2506.13277).
 */
export class SequentialPositionEncoder extends Module<[Tensor, { readonly checked?: boolean }?]> {
  /** `T`: `[base, dim]`. */
  readonly token_of_seqpe_embed: Embedding;
  /** `U`: `[axes maxDigits, dim]`. */
  readonly pos_of_seqpe_embed: Embedding;
  /** `C`: `[axes, 1, dim]`; absent with one axis. */
  readonly dim_token_embed?: Parameter;
  /** The summary token, `[1, 1, dim]`. */
  readonly cls_token_embed?: Parameter;
  readonly transformers: Block[];
  readonly layernorm?: LayerNorm;
  readonly out_proj: Linear;
  readonly axes: number;
  readonly maxDigits: number;
  readonly base: number;
  readonly outDim: number;
  readonly temperature: number;
  readonly #mask: DigitMaskOptions;

  /** @throws ConfigError for an option out of range, heads that do not divide `dim`, or no summary token where it must be. */
  constructor(options: SequentialPositionEncoderOptions) {
    super();
    const owner = 'SequentialPositionEncoder';
    checkOptions(owner, options);
    const { dim, outDim = dim, layers = 2, maxDigits, axes = 1, base = 10, temperature = 1 } = options;
    const { direction = 'causal', summaryToken = true, finalNorm = true, eps, rng } = options;
    const { init = truncNormal_({ std: 0.02 }), heads = dim / 64 } = options;
    checkRng(owner, rng);
    for (const [name, value] of Object.entries({ dim, outDim, layers, axes })) checkInteger(owner, name, value);
    checkInteger(owner, 'heads (dim / 64)', heads);
    if (dim % heads !== 0) {
      throw new ConfigError(`${owner}: heads is ${heads}; it must divide dim, ${dim}.`);
    }
    checkDigits(owner, { maxDigits, base });
    checkNumber(`${owner}: temperature`, temperature, { above: 0 });
    checkChoice(owner, 'direction', direction, ['causal', 'bidirectional'] as const);
    if (direction === 'bidirectional' && !summaryToken) {
      throw new ConfigError(
        `${owner}: summaryToken is false; without one direction must be 'causal', as the last digit then sums up.`,
      );
    }
    this.axes = axes;
    this.maxDigits = maxDigits;
    this.base = base;
    this.outDim = outDim;
    this.temperature = temperature;
    this.#mask = options;
    const table = (rows: number, name: string): Embedding => new Embedding(rows, dim, { init, rng: rng.fork(name) });
    const vectors = (shape: number[], name: string): Parameter =>
      new Parameter({ shape, init: () => init(shape, rng.fork(name)) });
    this.token_of_seqpe_embed = table(base, 'token');
    this.pos_of_seqpe_embed = table(axes * maxDigits, 'pos');
    if (axes > 1) this.dim_token_embed = vectors([axes, 1, dim], 'dim');
    if (summaryToken) this.cls_token_embed = vectors([1, 1, dim], 'cls');
    this.transformers = Array.from(
      { length: layers },
      (_, i) => new Block({ ...options, heads, init, rng: rng.fork('transformers').fork(i) }),
    );
    if (finalNorm) this.layernorm = new LayerNorm(dim, { eps });
    this.out_proj = new Linear(dim, outDim, { init, biasInit: zeros_(), rng: rng.fork('out_proj') });
  }

  /**
   * `[seq]` or `[seq, axes]` to `[seq, outDim]`.
   * @param options.checked that the positions are known to be right and need not be looked at. Default false.
   * @throws as `positionDigits`.
   */
  override forward(positions: Tensor, options: { readonly checked?: boolean } = {}): Tensor {
    const values = options.checked ? undefined : checkPlaces('SequentialPositionEncoder', positions, this);
    return tidy(() => {
      const { digits, mask } = digitsOf(values === undefined ? positions : placesOf(values, positions.shape), this);
      const tokens = add(this.token_of_seqpe_embed.apply(digits), this.#slots());
      const [seq, , dim] = tokens.shape as [number, number, number];
      const summary = this.cls_token_embed && tile(this.cls_token_embed.value, [seq, 1, 1]);
      let x = summary === undefined ? tokens : concat([tokens, summary], 1);
      // All rows see alike unless the padding is hidden.
      const rows = this.#mask.maskPadding ? mask : slice(mask, 0, 1);
      const seen = cast(expandDims(digitAttentionMask(rows, this.#mask), 1), 'bool');
      for (const block of this.transformers) x = block.apply(x, seen);
      const last = reshape(slice(x, [0, (x.shape[1] as number) - 1, 0], [-1, 1, -1]), [seq, dim]);
      const out = this.out_proj.apply(this.layernorm?.apply(last) ?? last);
      return this.temperature === 1 ? out : mul(out, 1 / this.temperature);
    });
  }

  /** What a token has from its place in the string, `[axes maxDigits, dim]`. */
  #slots(): Tensor {
    const table = this.pos_of_seqpe_embed.weight.value;
    if (this.dim_token_embed === undefined) return table;
    const [slots, dim] = table.shape as [number, number];
    return reshape(add(reshape(table, [this.axes, this.maxDigits, dim]), this.dim_token_embed.value), [slots, dim]);
  }
}
