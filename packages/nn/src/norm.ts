import {
  add,
  ConfigError,
  Module,
  mean,
  mul,
  ones,
  Parameter,
  rsqrt,
  ShapeError,
  square,
  sub,
  type Tensor,
  zeros,
} from '@ashlar/tensor';

/**
 * `(x - mean) / sqrt(variance + eps) * weight + bias` over the last axis, the variance biased as in PyTorch.
 * Source: Ba et al. 2016, arXiv 1607.06450.
 */
export class LayerNorm extends Module {
  readonly eps: number;
  weight: Parameter;
  bias?: Parameter;

  /** @param options.eps default 1e-5. @param options.bias default true. */
  constructor(size: number, options: { eps?: number; bias?: boolean } = {}) {
    super();
    const { eps = 1e-5, bias = true } = options;
    check(size, eps);
    this.eps = eps;
    this.weight = new Parameter({ shape: [size], init: () => ones([size]) });
    if (bias) this.bias = new Parameter({ shape: [size], init: () => zeros([size]) });
  }

  override forward(x: Tensor): Tensor {
    checkWidth(x, this.weight.shape[0]);
    const centered = sub(x, mean(x, -1, true));
    const scaled = mul(mul(centered, rsqrt(add(mean(square(centered), -1, true), this.eps))), this.weight.value);
    return this.bias === undefined ? scaled : add(scaled, this.bias.value);
  }
}

/** `x / sqrt(mean(x^2) + eps) * weight` over the last axis. Source: Zhang & Sennrich 2019, arXiv 1910.07467. */
export class RMSNorm extends Module {
  readonly eps: number;
  weight: Parameter;

  /** @param options.eps default 1e-6. */
  constructor(size: number, options: { eps?: number } = {}) {
    super();
    const { eps = 1e-6 } = options;
    check(size, eps);
    this.eps = eps;
    this.weight = new Parameter({ shape: [size], init: () => ones([size]) });
  }

  override forward(x: Tensor): Tensor {
    checkWidth(x, this.weight.shape[0]);
    return mul(mul(x, rsqrt(add(mean(square(x), -1, true), this.eps))), this.weight.value);
  }
}

function check(size: number, eps: number): void {
  if (!Number.isInteger(size) || size < 1) throw new ConfigError(`size is ${size}; it must be a positive integer.`);
  if (!(eps >= 0 && eps < 1)) throw new ConfigError(`eps is ${eps}; it must be in [0, 1).`);
}

function checkWidth(x: Tensor, size: number): void {
  if (x.shape[x.rank - 1] !== size) throw new ShapeError(`This norm takes [..., ${size}], not [${x.shape}].`);
}
