import {
  add,
  ConfigError,
  Module,
  matMul,
  Parameter,
  type Rng,
  reshape,
  ShapeError,
  type Tensor,
  zeros,
} from '@ashlar/tensor';
import { type Initializer, kaimingUniform_, uniform_ } from './init.ts';

export interface LinearOptions {
  /** Default true. */
  bias?: boolean;
  /** Source of the initial values. */
  rng: Rng;
  /** Default: Kaiming-uniform with a = sqrt(5), as PyTorch. */
  init?: Initializer;
}

/** `y = x W^T + b` on the last axis: `[..., in] -> [..., out]`, with `weight` `[out, in]` and `bias` `[out]`. */
export class Linear extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  weight: Parameter;
  bias?: Parameter;

  /** @throws ConfigError unless both sizes are positive integers. */
  constructor(inFeatures: number, outFeatures: number, options: LinearOptions) {
    super();
    const { bias = true, rng, init = kaimingUniform_({ a: Math.sqrt(5) }) } = options;
    for (const [name, size] of Object.entries({ inFeatures, outFeatures })) {
      if (!Number.isInteger(size) || size < 1)
        throw new ConfigError(`${name} is ${size}; it must be a positive integer.`);
    }
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    const shape = [outFeatures, inFeatures];
    this.weight = new Parameter({ shape, init: () => init(shape, rng.fork('weight')) });
    if (!bias) return;
    const bound = 1 / Math.sqrt(inFeatures);
    this.bias = new Parameter({
      shape: [outFeatures],
      init: () => uniform_(-bound, bound)([outFeatures], rng.fork('bias')),
    });
  }

  override forward(x: Tensor): Tensor {
    return affine(x, this.weight.value, this.bias?.value, true);
  }
}

/** GPT-2's linear layer, `y = x W + b`: `weight` is stored as `[in, out]`. Initialised N(0, 0.02^2), bias zero. */
export class Conv1D extends Module {
  weight: Parameter;
  bias: Parameter;

  constructor(inFeatures: number, outFeatures: number, options: { rng: Rng; init?: Initializer }) {
    super();
    const { rng, init = (shape, source) => source.normal(shape as [number, number], { std: 0.02 }) } = options;
    const shape = [inFeatures, outFeatures];
    this.weight = new Parameter({ shape, init: () => init(shape, rng.fork('weight')) });
    this.bias = new Parameter({ shape: [outFeatures], init: () => zeros([outFeatures]) });
  }

  override forward(x: Tensor): Tensor {
    return affine(x, this.weight.value, this.bias.value, false);
  }
}

/** One matrix product over all leading axes at once, then the bias. */
function affine(x: Tensor, weight: Tensor, bias: Tensor | undefined, transposed: boolean): Tensor {
  const [inFeatures, outFeatures] = transposed ? [weight.shape[1], weight.shape[0]] : weight.shape;
  if (x.rank < 1 || x.shape[x.rank - 1] !== inFeatures) {
    throw new ShapeError(`This layer takes [..., ${inFeatures}], not [${x.shape}].`);
  }
  const product = matMul(reshape(x, [-1, inFeatures]), weight, false, transposed);
  return reshape(bias === undefined ? product : add(product, bias), [...x.shape.slice(0, -1), outFeatures]);
}
