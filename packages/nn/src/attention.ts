import {
  ConfigError,
  checkEncoding,
  Module,
  type PositionEncoding,
  type Rng,
  range,
  ShapeError,
  type Tensor,
} from '@ashlar/tensor';
import { type AttendOptions, attend, mergeHeads, splitHeads } from './attend.ts';
import { Dropout } from './dropout.ts';
import type { Initializer } from './init.ts';
import type { KeyValueCache } from './key-value-cache.ts';
import { Linear } from './linear.ts';
import { checkHeads, checkSizes } from './options.ts';

/** What an attention layer may be told besides its input. */
export interface AttentionInput {
  /** Positions of the tokens, `[seq]` or `[seq, axes]`. Default 0, 1 …, counted on from the cache. */
  positions?: Tensor;
  /** See `AttendOptions`. */
  mask?: Tensor;
  /** Earlier tokens, which are attended to as well; the new ones are added to it. */
  cache?: KeyValueCache;
  /** What is attended to in place of the tokens themselves (cross-attention), `[batch, k, dim]`. Not with a cache. */
  context?: Tensor;
  /** Positions of the context. Default 0, 1 … */
  contextPositions?: Tensor;
}

export interface AttentionOptions {
  heads: number;
  /** Key and value heads, a divisor of `heads` (grouped-query attention, arXiv 2305.13245). Default `heads`. */
  kvHeads?: number;
  /** Default `dim / heads`. */
  headDim?: number;
  /**
   * Its `rotate`, `bias` or `scores` acts here; an `embed` is the model's to add to the tokens. No child of this module: an
   * encoding that has parameters belongs to the model. Default none.
   */
  encoding?: PositionEncoding;
  /** Index among the model's attention layers, which the encoding and the cache are told. Default 0. */
  layer?: number;
  /** See `AttendOptions`. Default false. */
  causal?: AttendOptions['causal'];
  /** Whether the projections of queries, keys and values have biases. Default true. */
  bias?: boolean;
  /** Whether the projection of the output has one. Default as `bias`. */
  outBias?: boolean;
  /** On the attention weights. Default 0. */
  dropout?: number;
  rng: Rng;
  /** Of the weights. Default as `Linear`. */
  init?: Initializer;
}

/**
 * Multi-head attention, `[batch, seq, dim]` to the same, with grouped queries and any position encoding.
 *
 * Source: Vaswani et al. 2017, arXiv 1706.03762.
 */
export class MultiHeadAttention extends Module<[Tensor, AttentionInput?]> {
  readonly heads: number;
  readonly kvHeads: number;
  readonly layer: number;
  readonly causal: AttendOptions['causal'];
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly out_proj: Linear;
  readonly dropout: Dropout;
  readonly #encoding: PositionEncoding | undefined;

  /** @throws ConfigError unless the heads divide `dim` and the key heads divide the heads; for an encoding that is none. */
  constructor(dim: number, options: AttentionOptions) {
    super();
    const { heads, kvHeads = heads, headDim = dim / heads, bias = true, outBias = bias, rng, init } = options;
    checkHeads('MultiHeadAttention', heads, kvHeads);
    if (options.encoding !== undefined) checkEncoding('MultiHeadAttention', options.encoding);
    checkSizes('MultiHeadAttention', { dim, 'headDim (dim / heads)': headDim });
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.layer = options.layer ?? 0;
    this.causal = options.causal ?? false;
    this.#encoding = options.encoding;
    this.q_proj = new Linear(dim, heads * headDim, { bias, init, rng: rng.fork('q_proj') });
    this.k_proj = new Linear(dim, kvHeads * headDim, { bias, init, rng: rng.fork('k_proj') });
    this.v_proj = new Linear(dim, kvHeads * headDim, { bias, init, rng: rng.fork('v_proj') });
    this.out_proj = new Linear(heads * headDim, dim, { bias: outBias, init, rng: rng.fork('out_proj') });
    this.dropout = new Dropout(options.dropout ?? 0, rng.fork('dropout'));
  }

  /** @throws ShapeError unless `x` is `[batch, seq, dim]`; ConfigError for a cache together with a context. */
  override forward(x: Tensor, input: AttentionInput = {}): Tensor {
    const { cache, mask, context } = input;
    if (x.rank !== 3) throw new ShapeError(`Attention takes tokens [batch, seq, dim], not [${x.shape}].`);
    if (cache !== undefined && context !== undefined) {
      throw new ConfigError('Attention takes a cache or a context, not both.');
    }
    const source = context ?? x;
    const q = splitHeads(this.q_proj.apply(x), this.heads);
    const keys = splitHeads(this.k_proj.apply(source), this.kvHeads);
    const values = splitHeads(this.v_proj.apply(source), this.kvHeads);
    const qPositions = input.positions ?? tokenPositions(x.shape[1] as number, cache?.lengthOf(this.layer));
    const own = context === undefined ? qPositions : input.contextPositions;
    const positions = own ?? tokenPositions(source.shape[1] as number);
    const all = cache?.append(this.layer, keys, values, positions) ?? { keys, values, positions };
    const { layer, causal, dropout } = this;
    const options = { encoding: this.#encoding, qPositions, kPositions: all.positions, layer, causal, mask, dropout };
    return this.out_proj.apply(mergeHeads(attend(q, all.keys, all.values, options)));
  }
}

/** `[seq]`, int32: the positions of `seq` tokens that follow `before` others. */
export function tokenPositions(seq: number, before = 0): Tensor {
  return range(before, before + seq, 1, 'int32');
}
