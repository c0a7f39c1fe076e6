import { RMSNorm, SwiGLU, xavierUniform_ } from '@ashlar/nn';
import { add, checkInteger, checkOptions, checkRng, Module, type Tensor, zeros } from '@ashlar/tensor';
import { LightNetAttention, type LightNetAttentionOptions, type LightNetInput } from './lightnet-attention.ts';

/**
 * A block of LightNet, `[batch, n, dim]` to the same: `x += attn(norm1(x)); x += glu(norm2(x))` with RMSNorm and
 * `glu(x) = (silu(x W_1) * x W_2) W_3`. `W_1` and `W_2` start as the projections of the attention do, `W_3` at zero.
 *
 * Source: "You Only Scan Once: Efficient Multi-dimension Sequential Modeling with LightNet" (2024, arXiv 2405.21022).
 */
export class LightNetBlock extends Module<[Tensor, LightNetInput?]> {
  readonly norm1: RMSNorm;
  readonly attn: LightNetAttention;
  readonly norm2: RMSNorm;
  readonly glu: SwiGLU;

  /** @param options.hidden width of the GLU; default `dim`. @throws ConfigError for an option out of range. */
  constructor(options: LightNetAttentionOptions & { readonly hidden?: number }) {
    super();
    checkRng('LightNetBlock', checkOptions('LightNetBlock', options).rng);
    const { dim, hidden = dim, rng, init = xavierUniform_({ gain: 0.01 }) } = options;
    checkInteger('LightNetBlock', 'hidden', hidden);
    this.attn = new LightNetAttention({ ...options, rng: rng.fork('attn') });
    this.norm1 = new RMSNorm(dim, { eps: 1e-5 / dim });
    this.norm2 = new RMSNorm(dim, { eps: 1e-5 / dim });
    this.glu = new SwiGLU(dim, hidden, { init, rng: rng.fork('glu') });
    this.glu.down_proj.weight.assign(zeros([dim, hidden]));
  }

  override forward(x: Tensor, input: LightNetInput = {}): Tensor {
    const y = add(x, this.attn.apply(this.norm1.apply(x), input));
    return add(y, this.glu.apply(this.norm2.apply(y)));
  }
}
