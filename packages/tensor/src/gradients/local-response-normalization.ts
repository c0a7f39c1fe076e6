import {
  add,
  type GradConfig,
  type LRNAttrs,
  matMul,
  mul,
  pow,
  reshape,
  square,
  sub,
  type Tensor,
  tensor2d,
} from '@tensorflow/tfjs-core';

/**
 * tfjs's has none itself. With `s = bias + alpha * W(x^2)`, `W` the sum over channels at most `depthRadius` away, and
 * `y = x s^-beta`: `dx = dy s^-beta - 2 alpha beta x W(dy x s^(-beta - 1))`.
 */
export const localResponseNormalization: GradConfig = {
  kernelName: 'LRN',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attrs) => {
    const { depthRadius, bias, alpha, beta } = attrs as unknown as LRNAttrs;
    const channels = x.shape[x.rank - 1];
    return {
      x: () => {
        const near = Float32Array.from({ length: channels ** 2 }, (_, i) =>
          Math.abs((i % channels) - Math.floor(i / channels)) <= depthRadius ? 1 : 0,
        );
        const band = tensor2d(near, [channels, channels]);
        const around = (t: Tensor): Tensor => reshape(matMul(reshape(t, [-1, channels]), band), x.shape);
        const scale = add(mul(around(square(x)), alpha), bias);
        const share = mul(dy as Tensor, pow(scale, -beta));
        const others = around(mul(mul(dy as Tensor, x), pow(scale, -beta - 1)));
        return sub(share, mul(mul(x, others), 2 * alpha * beta));
      },
    };
  },
};
