import { add, Module, type Tensor } from '@ashlar/tensor';
import { type AttentionInput, type AttentionOptions, MultiHeadAttention } from './attention.ts';
import { Dropout } from './dropout.ts';
import { Mlp } from './mlp.ts';
import { LayerNorm } from './norm.ts';

export interface TransformerBlockOptions extends AttentionOptions {
  /** Width of the hidden layer. Default `4 * dim`. */
  hidden?: number;
  /** Default `'gelu'`. */
  activation?: string;
  /** Whether a norm comes before each sublayer (GPT-2, ViT) or after its sum (BERT, the first Transformer). Default before. */
  norm?: 'pre' | 'post';
  /** Default 1e-5. */
  eps?: number;
}

/** A Transformer block, `[batch, seq, dim]` to the same: attention and an MLP, each with a norm and a residual. */
export class TransformerBlock extends Module<[Tensor, AttentionInput?]> {
  readonly norm1: LayerNorm;
  readonly attn: MultiHeadAttention;
  readonly norm2: LayerNorm;
  readonly mlp: Mlp;
  readonly dropout: Dropout;
  readonly #pre: boolean;

  constructor(dim: number, options: TransformerBlockOptions) {
    super();
    const { hidden = 4 * dim, activation, dropout = 0, norm = 'pre', eps = 1e-5, bias, rng } = options;
    this.#pre = norm === 'pre';
    this.norm1 = new LayerNorm(dim, { eps });
    this.attn = new MultiHeadAttention(dim, { ...options, rng: rng.fork('attn') });
    this.norm2 = new LayerNorm(dim, { eps });
    this.mlp = new Mlp(dim, hidden, { activation, dropout, bias, rng: rng.fork('mlp') });
    this.dropout = new Dropout(dropout, rng.fork('dropout'));
  }

  override forward(x: Tensor, input: AttentionInput = {}): Tensor {
    const attention = (y: Tensor): Tensor => this.dropout.apply(this.attn.apply(y, input));
    const mlp = (y: Tensor): Tensor => this.dropout.apply(this.mlp.apply(y));
    if (this.#pre) {
      const y = add(x, attention(this.norm1.apply(x)));
      return add(y, mlp(this.norm2.apply(y)));
    }
    const y = this.norm1.apply(add(x, attention(x)));
    return this.norm2.apply(add(y, mlp(y)));
  }
}
