import {
  ConfigError,
  Module,
  type PositionEncoding,
  type Rng,
  range,
  reshape,
  type Tensor,
  transpose,
} from '@ashlar/tensor';
import { attend } from './attend.ts';
import { Dropout } from './dropout.ts';
import type { KeyValueCache } from './key-value-cache.ts';
import { Linear } from './linear.ts';

/** What an attention layer may be told besides its input. */
export interface AttentionInput {
  /** Positions of the tokens, `[seq]` or `[seq, axes]`; default counted on from the cache. */
  positions?: Tensor;
  /** Positions of all keys, those in the cache first; default 0, 1, 2 … */
  kPositions?: Tensor;
  /** Added to the logits: anything that broadcasts to `[batch, heads, q, k]`; -1e9 hides a key. */
  mask?: Tensor;
  cache?: KeyValueCache;
}

export interface AttentionOptions {
  heads: number;
  /** Key and value heads, a divisor of `heads` (grouped-query attention, arXiv 2305.13245). Default `heads`. */
  kvHeads?: number;
  /** Default `dim / heads`. */
  headDim?: number;
  /** Default no encoding. */
  encoding?: PositionEncoding;
  /** Index among the model's attention layers. Default 0. */
  layer?: number;
  /** Default false. */
  causal?: boolean;
  /** Whether the projections have biases. Default true. */
  bias?: boolean;
  /** On the attention weights. Default 0. */
  dropout?: number;
  rng: Rng;
}

/** `[batch, seq, heads * dim]` to `[batch, heads, seq, dim]`. */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [batch, seq, width] = x.shape;
  return transpose(reshape(x, [batch, seq, heads, width / heads]), [0, 2, 1, 3]);
}

/** `[batch, heads, seq, dim]` to `[batch, seq, heads * dim]`. */
export function mergeHeads(x: Tensor): Tensor {
  const [batch, heads, seq, dim] = x.shape;
  return reshape(transpose(x, [0, 2, 1, 3]), [batch, seq, heads * dim]);
}

/** Multi-head self-attention, `[batch, seq, dim]` to the same, with any position encoding. Source: arXiv 1706.03762. */
export class MultiHeadAttention extends Module<[Tensor, AttentionInput?]> {
  readonly heads: number;
  readonly kvHeads: number;
  readonly layer: number;
  readonly causal: boolean;
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly out_proj: Linear;
  readonly dropout: Dropout;
  readonly encoding?: PositionEncoding;

  /** @throws ConfigError unless the heads divide `dim` and the key heads divide the heads. */
  constructor(dim: number, options: AttentionOptions) {
    super();
    const { heads, kvHeads = heads, bias = true, causal = false, layer = 0, dropout = 0, encoding, rng } = options;
    const { headDim = dim / heads } = options;
    if (!Number.isInteger(headDim) || headDim < 1)
      throw new ConfigError(`heads is ${heads}; it must divide dim ${dim}.`);
    if (!Number.isInteger(heads / kvHeads)) {
      throw new ConfigError(`kvHeads is ${kvHeads}; it must divide heads ${heads}.`);
    }
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.layer = layer;
    this.causal = causal;
    this.encoding = encoding;
    this.q_proj = new Linear(dim, heads * headDim, { bias, rng: rng.fork('q_proj') });
    this.k_proj = new Linear(dim, kvHeads * headDim, { bias, rng: rng.fork('k_proj') });
    this.v_proj = new Linear(dim, kvHeads * headDim, { bias, rng: rng.fork('v_proj') });
    this.out_proj = new Linear(heads * headDim, dim, { bias, rng: rng.fork('out_proj') });
    this.dropout = new Dropout(dropout, rng.fork('dropout'));
  }

  override forward(x: Tensor, input: AttentionInput = {}): Tensor {
    const { cache, mask } = input;
    const q = splitHeads(this.q_proj.apply(x), this.heads);
    const own = {
      k: splitHeads(this.k_proj.apply(x), this.kvHeads),
      v: splitHeads(this.v_proj.apply(x), this.kvHeads),
    };
    const { k, v } = cache === undefined ? own : cache.append(this.layer, own.k, own.v);
    const [qLength, kLength] = [q.shape[2] as number, k.shape[2] as number];
    const qPositions = input.positions ?? range(kLength - qLength, kLength, 1, 'int32');
    const kPositions = input.kPositions ?? (cache === undefined ? qPositions : range(0, kLength, 1, 'int32'));
    const { encoding, layer, causal, dropout } = this;
    const mixed = attend(q, k, v, { encoding, qPositions, kPositions, layer, causal, mask, dropout });
    return this.out_proj.apply(mergeHeads(mixed));
  }
}
