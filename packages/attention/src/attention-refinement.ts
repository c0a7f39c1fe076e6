import { Conv2d } from '@ashlar/nn';
import {
  add,
  Buffer,
  broadcastTo,
  cast,
  checkInteger,
  checkOptions,
  checkRng,
  concat,
  cumsum,
  div,
  Module,
  maximum,
  mul,
  noGrad,
  notEqual,
  ones,
  Parameter,
  type Rng,
  relu,
  reshape,
  rsqrt,
  ShapeError,
  square,
  sub,
  sum,
  type Tensor,
  tidy,
  transpose,
  zeros,
} from '@ashlar/tensor';

export interface RefinementInput {
  /** Rows of the image's cells. */
  readonly height: number;
  /** 1 (or true) where a cell is padding, `[batch, cells]`. Default none. */
  readonly padding?: Tensor;
  /** 0 where a step's attention does not count as coverage, `[batch, T]`; see `keepSteps`. Default all count. */
  readonly keep?: Tensor;
}

/**
 * What to subtract from the logits of attention over an image, so that cells already read are not read again: coverage
 * `C_t = sum_{s < t} keep_s [A_prev ; A]_s`, then a 5x5 convolution, ReLU, a 1x1 convolution and batch norm over the cells
 * that are no padding. Steps that draw nothing, such as braces, cover nothing: the implicit attention correction. Without
 * `keep` it is CoMER's refinement.
 *
 * Batch norm takes the batch's statistics in training and running ones (momentum 0.1) in evaluation.
 *
 * Source: Guan et al., "PosFormer" (ECCV 2024, arXiv 2407.07764); Zhao and Gao, "CoMER" (ECCV 2022, arXiv 2207.04410).
 */
export class AttentionRefinement extends Module<[Tensor, Tensor, RefinementInput]> {
  readonly heads: number;
  readonly conv: Conv2d;
  readonly proj: Conv2d;
  readonly post_norm: MaskedBatchNorm;

  /** @param options.channels of the coverage features. Default 32. @throws ConfigError unless both are positive integers. */
  constructor(options: { readonly heads: number; readonly channels?: number; readonly rng: Rng }) {
    super();
    checkRng('AttentionRefinement', checkOptions('AttentionRefinement', options).rng);
    const { heads, channels = 32, rng } = options;
    checkInteger('AttentionRefinement', 'heads', heads);
    checkInteger('AttentionRefinement', 'channels', channels);
    this.heads = heads;
    this.conv = new Conv2d(2 * heads, channels, 5, { padding: 2, rng: rng.fork('conv') });
    this.proj = new Conv2d(channels, heads, 1, { bias: false, rng: rng.fork('proj') });
    this.post_norm = new MaskedBatchNorm(heads);
  }

  /**
   * @param previous the attention of the layer before, `[batch, heads, T, cells]`. @param current of this layer, unrefined.
   * @returns `[batch, heads, T, cells]`, 0 at padding.
   * @throws ShapeError if the shapes do not fit or `height` does not divide the cells.
   */
  override forward(previous: Tensor, current: Tensor, { height, padding, keep }: RefinementInput): Tensor {
    const [batch, heads, steps, cells] = current.shape as [number, number, number, number];
    const fits =
      current.rank === 4 &&
      heads === this.heads &&
      String(previous.shape) === String(current.shape) &&
      Number.isInteger(height) &&
      height > 0 &&
      cells % height === 0 &&
      (padding === undefined || String(padding.shape) === String([batch, cells])) &&
      (keep === undefined || String(keep.shape) === String([batch, steps]));
    if (!fits) {
      throw new ShapeError(
        `AttentionRefinement takes two attentions [batch, ${this.heads}, T, cells], padding [batch, cells], keep [batch, T] ` +
          `and a height that divides the cells; not [${previous.shape}], [${current.shape}], [${padding?.shape ?? ''}], ` +
          `[${keep?.shape ?? ''}] and ${height}.`,
      );
    }
    const image = [height, cells / height];
    const both = concat([previous, current], 1);
    const counted = keep === undefined ? both : mul(both, reshape(cast(keep, 'float32'), [batch, 1, steps, 1]));
    const coverage = transpose(cumsum(counted, 2, true), [0, 2, 1, 3]);
    const padded = padding === undefined ? zeros([batch, cells]) : cast(padding, 'float32');
    const valid = reshape(broadcastTo(reshape(sub(1, padded), [batch, 1, cells]), [batch, steps, cells]), [
      batch * steps,
      1,
      ...image,
    ]);
    const features = relu(this.conv.apply(reshape(coverage, [batch * steps, 2 * heads, ...image])));
    const refined = this.post_norm.apply(this.proj.apply(mul(features, valid)), valid);
    return transpose(reshape(refined, [batch, steps, heads, cells]), [0, 2, 1, 3]);
  }
}

/**
 * Which steps count as coverage: 0 where the decoder's INPUT token is one of `structural` (of `^`, `_` and `{` the ids),
 * which have no ink, else 1. The same in both reading directions.
 * @param tokens int32 `[batch, T]`. @returns float32 `[batch, T]`.
 */
export function keepSteps(tokens: Tensor, structural: readonly number[]): Tensor {
  return tidy(() =>
    structural.reduce(
      (keep: Tensor, id) => mul(keep, cast(notEqual(tokens, id), 'float32')),
      ones(tokens.shape) as Tensor,
    ),
  );
}

/** Batch norm of `[rows, channels, height, width]` over the cells where `valid`, `[rows, 1, height, width]`, is 1. */
class MaskedBatchNorm extends Module<[Tensor, Tensor]> {
  readonly bn: { weight: Parameter; bias: Parameter; running_mean: Buffer; running_var: Buffer };

  constructor(channels: number) {
    super();
    const shape: [number] = [channels];
    this.bn = {
      weight: new Parameter({ shape, init: () => ones(shape) }),
      bias: new Parameter({ shape, init: () => zeros(shape) }),
      running_mean: new Buffer({ shape, init: () => zeros(shape) }),
      running_var: new Buffer({ shape, init: () => ones(shape) }),
    };
  }

  override forward(x: Tensor, valid: Tensor): Tensor {
    const { weight, bias, running_mean, running_var } = this.bn;
    const column = (t: Tensor): Tensor => reshape(t, [1, -1, 1, 1]);
    let [mean, variance] = [column(running_mean.stored), column(running_var.stored)];
    if (this.training) {
      const count = maximum(sum(valid), 1);
      const average = (t: Tensor): Tensor => div(sum(mul(t, valid), [0, 2, 3], true), count);
      mean = average(x);
      variance = average(square(sub(x, mean)));
      const unbiased = noGrad(() => mul(variance, div(count, maximum(sub(count, 1), 1))));
      for (const [buffer, value] of [
        [running_mean, mean],
        [running_var, unbiased],
      ] as const) {
        buffer.assign(noGrad(() => add(mul(buffer.stored, 0.9), mul(reshape(value, [-1]), 0.1))));
      }
    }
    const y = mul(sub(x, mean), mul(rsqrt(add(variance, 1e-5)), column(weight.value)));
    return mul(add(y, column(bias.value)), valid);
  }
}
