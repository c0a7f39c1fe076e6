import { add, ConfigError, Module, type Tensor } from '@ashlar/tensor';
import { type AttentionInput, type AttentionOptions, MultiHeadAttention } from './attention.ts';
import { Dropout } from './dropout.ts';
import { LayerNorm } from './layer-norm.ts';
import { Mlp } from './mlp.ts';

export interface TransformerBlockOptions extends AttentionOptions {
  /** Width of the hidden layer. Default `4 * dim`. */
  hidden?: number;
  /** By its name in `config.json`. Default `'gelu'`. */
  activation?: string;
  /** Whether a norm comes before each sublayer (GPT-2, ViT) or after its sum (BERT, the first Transformer). Default before. */
  norm?: 'pre' | 'post';
  /** Of the norms. Default 1e-5. */
  eps?: number;
}

/**
 * A Transformer block, `[batch, seq, dim]` to the same. Pre-norm: `x += attn(norm1(x)); x += mlp(norm2(x))`; post-norm:
 * `x = norm1(x + attn(x)); x = norm2(x + mlp(x))`. `dropout` acts on the attention weights, on the hidden units and on
 * what either sublayer adds. An encoding's `embed` is not called: the model adds it to the tokens before its first block.
 *
 * Source: Vaswani et al. 2017, arXiv 1706.03762; Xiong et al. 2020, arXiv 2002.04745 (pre-norm).
 */
export class TransformerBlock extends Module<[Tensor, AttentionInput?]> {
  readonly norm1: LayerNorm;
  readonly attn: MultiHeadAttention;
  readonly norm2: LayerNorm;
  readonly mlp: Mlp;
  readonly dropout: Dropout;
  readonly #norm: 'pre' | 'post';

  constructor(dim: number, options: TransformerBlockOptions) {
    super();
    const { hidden = 4 * dim, activation, dropout = 0, norm = 'pre', eps, bias, rng, init } = options;
    if (norm !== 'pre' && norm !== 'post') {
      throw new ConfigError(`TransformerBlock: norm is '${norm}'; it may be 'pre' or 'post'.`);
    }
    this.#norm = norm;
    this.norm1 = new LayerNorm(dim, { eps });
    this.attn = new MultiHeadAttention(dim, { ...options, rng: rng.fork('attn') });
    this.norm2 = new LayerNorm(dim, { eps });
    this.mlp = new Mlp(dim, hidden, { activation, dropout, bias, init, rng: rng.fork('mlp') });
    this.dropout = new Dropout(dropout, rng.fork('dropout'));
  }

  override forward(x: Tensor, input: AttentionInput = {}): Tensor {
    const attention = (y: Tensor): Tensor => this.dropout.apply(this.attn.apply(y, input));
    const mlp = (y: Tensor): Tensor => this.dropout.apply(this.mlp.apply(y));
    if (this.#norm === 'pre') {
      const y = add(x, attention(this.norm1.apply(x)));
      return add(y, mlp(this.norm2.apply(y)));
    }
    const y = this.norm1.apply(add(x, attention(x)));
    return this.norm2.apply(add(y, mlp(y)));
  }
}
