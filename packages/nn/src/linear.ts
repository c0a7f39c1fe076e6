import { Module, Parameter, type Rng, type Tensor } from '@ashlar/tensor';
import { affine } from './affine.ts';
import { type Initializer, kaimingUniform_, uniform_ } from './init.ts';
import { checkSizes } from './options.ts';

export interface LinearOptions {
  /** Default true. */
  bias?: boolean;
  /** Source of the initial values. */
  rng: Rng;
  /** Of the weight. Default: Kaiming-uniform with a = sqrt(5), as PyTorch. */
  init?: Initializer;
  /** Of the bias. Default: U(-b, b) with b = 1 / sqrt(in), as PyTorch. */
  biasInit?: Initializer;
}

/** `y = x W^T + b` on the last axis: `[..., in]` to `[..., out]`, with `weight` `[out, in]` and `bias` `[out]`. */
export class Linear extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  weight: Parameter;
  bias?: Parameter;

  /** @throws ConfigError unless both sizes are positive integers. */
  constructor(inFeatures: number, outFeatures: number, options: LinearOptions) {
    super();
    checkSizes('Linear', { inFeatures, outFeatures });
    const { bias = true, rng, init = kaimingUniform_({ a: Math.sqrt(5) }) } = options;
    const bound = 1 / Math.sqrt(inFeatures);
    const { biasInit = uniform_(-bound, bound) } = options;
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    const shape = [outFeatures, inFeatures];
    this.weight = new Parameter({ shape, init: () => init(shape, rng.fork('weight')) });
    if (bias) {
      this.bias = new Parameter({ shape: [outFeatures], init: () => biasInit([outFeatures], rng.fork('bias')) });
    }
  }

  /** @throws ShapeError unless the last axis of `x` is `inFeatures`. */
  override forward(x: Tensor): Tensor {
    return affine(x, this.weight.value, this.bias?.value, 'out-in');
  }
}
