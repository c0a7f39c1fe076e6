import { add, customGrad, mul, sigmoid, sub, type Tensor } from '@tensorflow/tfjs-core';

/**
 * Sigmoid linear unit (swish): `x sigmoid(x)`.
 *
 * Source: Elfwing, Uchibe and Doya (2017, arXiv 1702.03118).
 */
export function silu(x: Tensor): Tensor {
  // Keeps `x` alone for the backward pass.
  return customGrad((x, save) => {
    (save as (tensors: Tensor[]) => void)([x as Tensor]);
    return {
      value: mul(x as Tensor, sigmoid(x as Tensor)),
      gradFunc: (dy: Tensor, [x]: Tensor[]) => {
        const s = sigmoid(x);
        return mul(dy, mul(s, add(mul(x, sub(1, s)), 1)));
      },
    };
  })(x);
}
