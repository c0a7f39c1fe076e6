import { fill, Module, mul, Parameter, type Rng, type Tensor } from '@ashlar/tensor';
import { affine } from './affine.ts';
import { normal_ } from './init.ts';
import { checkSizes } from './options.ts';

export interface EqualizedLinearOptions {
  /** Default true. */
  bias?: boolean;
  /** What the bias starts from. Default 0; StyleGAN's style layers start from 1. */
  biasInit?: number;
  /** The learning rate of this layer relative to the others'. Default 1. */
  lrMultiplier?: number;
  rng: Rng;
}

/**
 * A linear layer with an equalized learning rate: `y = g x W^T + lrMultiplier b`, `g = lrMultiplier / sqrt(in)`, on the last
 * axis, with `weight` `[out, in]` from `N(0, 1 / lrMultiplier^2)` and `bias` `[out]`: the fully connected layer of StyleGAN2.
 *
 * Source: Karras et al. 2018, arXiv 1710.10196; Karras et al. 2020, arXiv 1912.04958.
 */
export class EqualizedLinear extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** The factor `g` on the weight. */
  readonly weightGain: number;
  readonly #biasGain: number;
  weight: Parameter;
  bias?: Parameter;

  /** @throws ConfigError unless both sizes are positive integers. */
  constructor(inFeatures: number, outFeatures: number, options: EqualizedLinearOptions) {
    super();
    checkSizes('EqualizedLinear', { inFeatures, outFeatures });
    const { bias = true, biasInit = 0, lrMultiplier = 1, rng } = options;
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    this.weightGain = lrMultiplier / Math.sqrt(inFeatures);
    this.#biasGain = lrMultiplier;
    const shape = [outFeatures, inFeatures];
    const init = normal_({ std: 1 / lrMultiplier });
    this.weight = new Parameter({ shape, init: () => init(shape, rng.fork('weight')) });
    if (bias)
      this.bias = new Parameter({ shape: [outFeatures], init: () => fill([outFeatures], biasInit / lrMultiplier) });
  }

  /** @throws ShapeError unless the last axis of `x` is `inFeatures`. */
  override forward(x: Tensor): Tensor {
    const bias = this.bias && mul(this.bias.value, this.#biasGain);
    return affine(x, mul(this.weight.value, this.weightGain), bias, 'out-in');
  }
}
