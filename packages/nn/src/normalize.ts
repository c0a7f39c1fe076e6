import { add, customGrad, mean, mul, rsqrt, square, sub, type Tensor } from '@ashlar/tensor';

type Save = (tensors: Tensor[]) => void;
type Unary = (x: Tensor) => Tensor;

/** `(x - mean) / sqrt(var + eps)` over the last axis, `var` the biased variance. */
export function standardize(x: Tensor, eps: number): Tensor {
  return overLastAxis(x, eps, (x) => sub(x, mean(x, -1, true)));
}

/** `x / sqrt(mean(x^2) + eps)` over the last axis. */
export function rmsNormalize(x: Tensor, eps: number): Tensor {
  return overLastAxis(x, eps, (x) => x);
}

/**
 * `y = r c`, with `c = center(x)` linear and `r = 1 / sqrt(mean(c^2) + eps)`, whose gradient is
 * `r center(dy - y mean(dy y))`. Written out because tfjs would take some twenty operations for it; keeps `x` alone for
 * the backward pass.
 */
function overLastAxis(x: Tensor, eps: number, center: Unary): Tensor {
  const scaled = (x: Tensor): { y: Tensor; r: Tensor } => {
    const c = center(x);
    const r = rsqrt(add(mean(square(c), -1, true), eps));
    return { y: mul(c, r), r };
  };
  return customGrad((x, save) => {
    (save as Save)([x as Tensor]);
    return {
      value: scaled(x as Tensor).y,
      gradFunc: (dy: Tensor, [x]: Tensor[]) => {
        const { y, r } = scaled(x);
        return mul(r, center(sub(dy, mul(y, mean(mul(dy, y), -1, true)))));
      },
    };
  })(x);
}
