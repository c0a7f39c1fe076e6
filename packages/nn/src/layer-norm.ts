import { add, ConfigError, Module, mul, ones, Parameter, ShapeError, type Tensor, zeros } from '@ashlar/tensor';
import { standardize } from './normalize.ts';
import { checkSizes } from './options.ts';

/**
 * `y = (x - mean) / sqrt(var + eps) * weight + bias` over the last axis, `var` the biased variance.
 *
 * Source: Ba, Kiros and Hinton, "Layer normalization" (2016, arXiv 1607.06450).
 */
export class LayerNorm extends Module {
  readonly eps: number;
  /** `[dim]`, from ones; absent without `elementwiseAffine`. */
  weight?: Parameter;
  /** `[dim]`, from zeros. */
  bias?: Parameter;
  readonly dim: number;

  /**
   * @param options.eps default 1e-5.
   * @param options.elementwiseAffine whether there are a weight and a bias; default true.
   * @param options.bias whether there is a bias; default true.
   */
  constructor(dim: number, options: { eps?: number; elementwiseAffine?: boolean; bias?: boolean } = {}) {
    super();
    checkSizes('LayerNorm', { dim });
    const { eps = 1e-5, elementwiseAffine = true, bias = true } = options;
    this.eps = checkEps('LayerNorm', eps);
    this.dim = dim;
    if (elementwiseAffine) this.weight = new Parameter({ shape: [dim], init: () => ones([dim]) });
    if (elementwiseAffine && bias) this.bias = new Parameter({ shape: [dim], init: () => zeros([dim]) });
  }

  /** @throws ShapeError unless the last axis of `x` is `dim`. */
  override forward(x: Tensor): Tensor {
    checkLastAxis(x, this.dim);
    const y = standardize(x, this.eps);
    const scaled = this.weight === undefined ? y : mul(y, this.weight.value);
    return this.bias === undefined ? scaled : add(scaled, this.bias.value);
  }
}

/** @throws ConfigError unless it is a finite number from 0. */
export function checkEps(owner: string, eps: number): number {
  if (Number.isFinite(eps) && eps >= 0) return eps;
  throw new ConfigError(`${owner}: eps is ${eps}; it must be a finite number of at least 0.`);
}

export function checkLastAxis(x: Tensor, dim: number): void {
  if (x.rank < 1 || x.shape[x.rank - 1] !== dim) {
    throw new ShapeError(`This layer takes [..., ${dim}], not [${x.shape}].`);
  }
}
