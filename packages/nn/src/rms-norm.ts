import { Module, mul, ones, Parameter, type Tensor } from '@ashlar/tensor';
import { checkEps, checkLastAxis } from './layer-norm.ts';
import { rmsNormalize } from './normalize.ts';
import { checkSizes } from './options.ts';

/**
 * `y = x / sqrt(mean(x^2) + eps) * weight` over the last axis.
 *
 * Source: Zhang and Sennrich, "Root mean square layer normalization" (2019, arXiv 1910.07467).
 */
export class RMSNorm extends Module {
  readonly eps: number;
  /** `[dim]`, from ones. */
  weight: Parameter;
  readonly dim: number;

  /** @param options.eps default 1e-6. */
  constructor(dim: number, options: { eps?: number } = {}) {
    super();
    checkSizes('RMSNorm', { dim });
    this.eps = checkEps('RMSNorm', options.eps ?? 1e-6);
    this.dim = dim;
    this.weight = new Parameter({ shape: [dim], init: () => ones([dim]) });
  }

  /** @throws ShapeError unless the last axis of `x` is `dim`. */
  override forward(x: Tensor): Tensor {
    checkLastAxis(x, this.dim);
    return mul(rmsNormalize(x, this.eps), this.weight.value);
  }
}
