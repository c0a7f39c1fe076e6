import {
  add,
  Buffer,
  checkNumber,
  Module,
  mean,
  mul,
  noGrad,
  ones,
  Parameter,
  reshape,
  rsqrt,
  ShapeError,
  scalar,
  square,
  sub,
  type Tensor,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { checkSizes } from './options.ts';

/**
 * Batch normalization, `[batch, channels, …]` to the same: `weight (x - mean) / sqrt(var + eps) + bias` for each channel, by the
 * batch's statistics in training and by running ones in evaluation. Parameters and buffers have PyTorch's names.
 *
 * Source: Ioffe and Szegedy 2015, arXiv 1502.03167.
 */
export class BatchNorm extends Module<[Tensor]> {
  readonly channels: number;
  readonly eps: number;
  readonly momentum: number;
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly running_mean: Buffer;
  readonly running_var: Buffer;
  /** int32, as PyTorch counts them. */
  readonly num_batches_tracked: Buffer;

  /** @param options.eps default 1e-5. @param options.momentum the share of each new batch in the running statistics, default 0.1. */
  constructor(channels: number, options: { readonly eps?: number; readonly momentum?: number } = {}) {
    super();
    const { eps = 1e-5, momentum = 0.1 } = options;
    checkSizes('BatchNorm', { channels });
    checkNumber('BatchNorm: eps', eps, { min: 0 });
    checkNumber('BatchNorm: momentum', momentum, { min: 0, max: 1 });
    this.channels = channels;
    this.eps = eps;
    this.momentum = momentum;
    const shape: [number] = [channels];
    this.weight = new Parameter({ shape, init: () => ones(shape) });
    this.bias = new Parameter({ shape, init: () => zeros(shape) });
    this.running_mean = new Buffer({ shape, init: () => zeros(shape) });
    this.running_var = new Buffer({ shape, init: () => ones(shape) });
    this.num_batches_tracked = new Buffer({ shape: [], dtype: 'int32', init: () => scalar(0, 'int32') });
  }

  /** @throws ShapeError for other channels, or in training for less than two values of each. */
  override forward(x: Tensor): Tensor {
    const { channels, eps } = this;
    if (x.rank < 2 || x.shape[1] !== channels) {
      throw new ShapeError(`BatchNorm takes [batch, ${channels}, ...], not [${x.shape}].`);
    }
    return tidy(() => {
      const column = (t: Tensor): Tensor => reshape(t, [channels, ...Array(x.rank - 2).fill(1)]);
      const [centre, variance] = this.training
        ? this.#statistics(x)
        : [column(this.running_mean.stored), column(this.running_var.stored)];
      const scale = mul(rsqrt(add(variance, eps)), column(this.weight.value));
      return add(mul(sub(x, centre), scale), column(this.bias.value));
    });
  }

  #statistics(x: Tensor): [Tensor, Tensor] {
    const count = x.size / this.channels;
    if (count < 2) {
      throw new ShapeError(`BatchNorm trains on two values of each channel or more, not [${x.shape}]; call eval().`);
    }
    const axes = x.shape.map((_, axis) => axis).filter((axis) => axis !== 1);
    const centre = mean(x, axes, true);
    const variance = mean(square(sub(x, centre)), axes, true);
    const follow = (buffer: Buffer, value: Tensor): void =>
      buffer.assign(noGrad(() => add(mul(buffer.stored, 1 - this.momentum), mul(reshape(value, [-1]), this.momentum))));
    follow(this.running_mean, centre);
    follow(
      this.running_var,
      noGrad(() => mul(variance, count / (count - 1))),
    );
    const batches = this.num_batches_tracked;
    batches.assign(noGrad(() => add(batches.stored, scalar(1, 'int32'))));
    return [centre, variance];
  }
}
