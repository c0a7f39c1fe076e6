import { Module, Parameter, type Rng, type Tensor, zeros } from '@ashlar/tensor';
import { affine } from './affine.ts';
import { type Initializer, normal_ } from './init.ts';
import { checkSizes } from './options.ts';

/**
 * GPT-2's linear layer, `y = x W + b`: `weight` is stored as `[in, out]`, `bias` `[out]`, under the name that
 * `transformers` gave it. It convolves nothing.
 */
export class Conv1D extends Module {
  weight: Parameter;
  bias: Parameter;

  /**
   * @param options.init of the weight; default N(0, 0.02^2). The bias starts at zero.
   * @throws ConfigError unless both sizes are positive integers.
   */
  constructor(inFeatures: number, outFeatures: number, options: { rng: Rng; init?: Initializer }) {
    super();
    checkSizes('Conv1D', { inFeatures, outFeatures });
    const { rng, init = normal_({ std: 0.02 }) } = options;
    const shape = [inFeatures, outFeatures];
    this.weight = new Parameter({ shape, init: () => init(shape, rng.fork('weight')) });
    this.bias = new Parameter({ shape: [outFeatures], init: () => zeros([outFeatures]) });
  }

  /** `[..., in]` to `[..., out]`. @throws ShapeError unless the last axis of `x` is `in`. */
  override forward(x: Tensor): Tensor {
    return affine(x, this.weight.value, this.bias.value, 'in-out');
  }
}
