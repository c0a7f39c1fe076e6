import { attend, Dropout, LayerNorm, Linear, MASKED, mergeHeads, splitHeads, xavierUniform_ } from '@ashlar/nn';
import {
  add,
  ConfigError,
  cast,
  checkInteger,
  checkNumber,
  checkOptions,
  checkRng,
  Module,
  matMul,
  mul,
  Parameter,
  type Rng,
  relu,
  reshape,
  ShapeError,
  softmax,
  split,
  sub,
  type Tensor,
  zeros,
} from '@ashlar/tensor';
import { AttentionRefinement, type RefinementInput } from './attention-refinement.ts';

export interface CoverageDecoderOptions {
  /** Default 256. */
  readonly dim?: number;
  /** Default 8. */
  readonly heads?: number;
  /** Default 3. */
  readonly layers?: number;
  /** Width of the hidden layer. Default 1024. */
  readonly hidden?: number;
  /** Default 0.3. */
  readonly dropout?: number;
  /** Of the coverage features. Default 32. */
  readonly channels?: number;
  readonly rng: Rng;
}

export interface CoverageInput extends RefinementInput {
  /** What is read, `[batch, cells, dim]`. */
  readonly memory: Tensor;
  /** 1 where a token is padding, `[batch, T]`. Default none. */
  readonly tokenPadding?: Tensor;
}

/**
 * A causal Transformer decoder over an image (post-norm, ReLU) whose cross-attention knows what has been read: from the
 * second layer on `softmax(E - R(A_prev, softmax(E)))`, one refinement `R` for all layers and `A_prev` the attention of the
 * layer before. Dropout acts on the attention that the refinement sees.
 *
 * Source: Zhao and Gao, "CoMER" (ECCV 2022, arXiv 2207.04410); with `keep`, PosFormer (arXiv 2407.07764).
 */
export class CoverageDecoder extends Module<[Tensor, CoverageInput], { out: Tensor; attention: Tensor }> {
  readonly dim: number;
  readonly layers: readonly Layer[];
  readonly arm: AttentionRefinement;

  /** @throws ConfigError for a size out of range or heads that do not divide `dim`. */
  constructor(options: CoverageDecoderOptions) {
    super();
    checkRng('CoverageDecoder', checkOptions('CoverageDecoder', options).rng);
    const { dim = 256, heads = 8, layers = 3, hidden = 1024, dropout = 0.3, channels, rng } = options;
    checkInteger('CoverageDecoder', 'dim', dim);
    checkInteger('CoverageDecoder', 'heads', heads);
    if (dim % heads !== 0) {
      throw new ConfigError(`CoverageDecoder: dim is ${dim}; it must be a multiple of heads, ${heads}.`);
    }
    checkInteger('CoverageDecoder', 'layers', layers);
    checkInteger('CoverageDecoder', 'hidden', hidden);
    checkNumber('CoverageDecoder: dropout', dropout, { min: 0, below: 1 });
    this.dim = dim;
    this.layers = Array.from(
      { length: layers },
      (_, i) => new Layer({ dim, heads, hidden, dropout, rng: rng.fork('layers').fork(i) }),
    );
    this.arm = new AttentionRefinement({ heads, channels, rng: rng.fork('arm') });
  }

  /**
   * `[batch, T, dim]` to the same, with the last layer's attention `[batch, heads, T, cells]`.
   * @throws ShapeError if the shapes do not fit.
   */
  override forward(x: Tensor, input: CoverageInput): { out: Tensor; attention: Tensor } {
    const { memory, padding, tokenPadding } = input;
    const [batch, steps] = x.shape;
    const [, cells] = memory.shape;
    const fits =
      [x, memory].every(({ rank, shape }) => rank === 3 && shape[0] === batch && shape[2] === this.dim) &&
      (padding === undefined || String(padding.shape) === String([batch, cells])) &&
      (tokenPadding === undefined || String(tokenPadding.shape) === String([batch, steps]));
    if (!fits) {
      throw new ShapeError(
        `CoverageDecoder takes [batch, T, ${this.dim}], memory [batch, cells, ${this.dim}], padding [batch, cells] and ` +
          `tokenPadding [batch, T], not [${x.shape}], [${memory.shape}], [${padding?.shape ?? ''}] and ` +
          `[${tokenPadding?.shape ?? ''}].`,
      );
    }
    let out = x;
    let attention: Tensor | undefined;
    for (const layer of this.layers) {
      const previous = attention;
      const refine = previous && ((current: Tensor): Tensor => this.arm.apply(previous, current, input));
      ({ out, attention } = layer.apply(out, input, refine));
    }
    return { out, attention: attention as Tensor };
  }
}

type Refine = (attention: Tensor) => Tensor;

interface LayerOptions {
  dim: number;
  heads: number;
  hidden: number;
  dropout: number;
  rng: Rng;
}

class Layer extends Module<[Tensor, CoverageInput, Refine?], { out: Tensor; attention: Tensor }> {
  readonly self_attn: PackedAttention;
  readonly multihead_attn: PackedAttention;
  readonly linear1: Linear;
  readonly linear2: Linear;
  readonly norm1: LayerNorm;
  readonly norm2: LayerNorm;
  readonly norm3: LayerNorm;
  readonly dropout: Dropout;

  constructor({ dim, heads, hidden, dropout, rng }: LayerOptions) {
    super();
    this.self_attn = new PackedAttention(dim, heads, dropout, rng.fork('self_attn'));
    this.multihead_attn = new PackedAttention(dim, heads, dropout, rng.fork('multihead_attn'));
    this.linear1 = new Linear(dim, hidden, { rng: rng.fork('linear1') });
    this.linear2 = new Linear(hidden, dim, { rng: rng.fork('linear2') });
    this.norm1 = new LayerNorm(dim);
    this.norm2 = new LayerNorm(dim);
    this.norm3 = new LayerNorm(dim);
    this.dropout = new Dropout(dropout, rng.fork('dropout'));
  }

  override forward(x: Tensor, input: CoverageInput, refine?: Refine): { out: Tensor; attention: Tensor } {
    const { memory, padding, tokenPadding } = input;
    const after = (norm: LayerNorm, x: Tensor, y: Tensor): Tensor => norm.apply(add(x, this.dropout.apply(y)));
    const seen = after(this.norm1, x, this.self_attn.self(x, tokenPadding));
    const { out: read, attention } = this.multihead_attn.apply(seen, memory, padding, refine);
    const y = after(this.norm2, seen, read);
    const hidden = this.dropout.apply(relu(this.linear1.apply(y)));
    return { out: after(this.norm3, y, this.linear2.apply(hidden)), attention };
  }
}

/** Multi-head attention with PyTorch's parameters: the projections of queries, keys and values in one. */
class PackedAttention extends Module<[Tensor, Tensor, Tensor?, Refine?], { out: Tensor; attention: Tensor }> {
  readonly in_proj_weight: Parameter;
  readonly in_proj_bias: Parameter;
  readonly out_proj: Linear;
  readonly dropout: Dropout;
  readonly #heads: number;

  constructor(dim: number, heads: number, dropout: number, rng: Rng) {
    super();
    this.#heads = heads;
    const shape = [3 * dim, dim];
    this.in_proj_weight = new Parameter({ shape, init: () => xavierUniform_()(shape, rng.fork('in_proj_weight')) });
    this.in_proj_bias = new Parameter({ shape: [3 * dim], init: () => zeros([3 * dim]) });
    this.out_proj = new Linear(dim, dim, { rng: rng.fork('out_proj'), biasInit: (shape) => zeros(shape) });
    this.dropout = new Dropout(dropout, rng.fork('dropout'));
  }

  /** `x` to `memory`, as far as it is no `padding`; the logits less what `refine` makes of the attention. */
  override forward(x: Tensor, memory: Tensor, padding?: Tensor, refine?: Refine): { out: Tensor; attention: Tensor } {
    const [q, k, v] = this.#project(x, memory);
    const products = matMul(mul(q, 1 / Math.sqrt(q.shape[3] as number)), k, false, true);
    const mask = keyMask(padding);
    const logits = mask === undefined ? products : add(products, mask);
    const first = this.dropout.apply(softmax(logits));
    const attention = refine === undefined ? first : this.dropout.apply(softmax(sub(logits, refine(first))));
    return { out: this.out_proj.apply(mergeHeads(matMul(attention, v))), attention };
  }

  /** Causal self-attention. */
  self(x: Tensor, padding: Tensor | undefined): Tensor {
    const [q, k, v] = this.#project(x, x);
    const { dropout } = this;
    return this.out_proj.apply(mergeHeads(attend(q, k, v, { causal: true, mask: keyMask(padding), dropout })));
  }

  #project(x: Tensor, memory: Tensor): Tensor[] {
    const weights = split(this.in_proj_weight.value, 3, 0);
    const biases = split(this.in_proj_bias.value, 3, 0);
    return [x, memory, memory].map((source, i) => {
      const flat = reshape(source, [-1, source.shape[2] as number]);
      const projected = add(matMul(flat, weights[i], false, true), biases[i]);
      return splitHeads(reshape(projected, source.shape), this.#heads);
    });
  }
}

/** `[batch, keys]` to `[batch, 1, 1, keys]`, to be added to logits. */
function keyMask(padding: Tensor | undefined): Tensor | undefined {
  if (padding === undefined) return undefined;
  return mul(reshape(cast(padding, 'float32'), [padding.shape[0], 1, 1, -1]), MASKED);
}
