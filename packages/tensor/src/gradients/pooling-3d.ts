import {
  type AvgPool3DAttrs,
  backend_util,
  type GradConfig,
  matMul,
  reshape,
  type Tensor,
  tensor2d,
  util,
} from '@tensorflow/tfjs-core';
import { scatterRowsAdd } from '../ops/scatter-rows-add.ts';
import { pauseTape } from './tape.ts';
import { maxima, pixelsSeen, type SlidingAxis } from './windows.ts';

/*
 * tfjs's gradients of pooling volumes have none themselves. With padding they are wrong too: the average's divides by
 * the size of the window where the forward pass divides by the number of pixels in it, and the maximum's misses some.
 */

/** Depth, height and width. */
function axesOf(x: Tensor, attrs: unknown): SlidingAxis[] {
  const { filterSize, strides, pad, dimRoundingMode } = attrs as AvgPool3DAttrs;
  const shape = x.shape as [number, number, number, number, number];
  const info = backend_util.computePool3DInfo(shape, filterSize, strides, 1, pad, dimRoundingMode);
  const { padInfo } = info;
  return [
    [info.inDepth, info.outDepth, info.strideDepth, info.filterDepth, padInfo.front],
    [info.inHeight, info.outHeight, info.strideHeight, info.filterHeight, padInfo.top],
    [info.inWidth, info.outWidth, info.strideWidth, info.filterWidth, padInfo.left],
  ].map(([pixels, windows, stride, size, padding]) => ({ pixels, windows, stride, size, dilation: 1, padding }));
}

/** Averaging is linear and separable: along each axis a matrix `[windows, pixels]` of shares. */
function shares(axis: SlidingAxis): Tensor {
  const weights = new Float32Array(axis.windows * axis.pixels);
  for (const [window, taps] of pixelsSeen([axis]).entries()) {
    const inside = taps.filter((pixel) => pixel >= 0);
    for (const pixel of inside) weights[window * axis.pixels + pixel] = 1 / inside.length;
  }
  return tensor2d(weights, [axis.windows, axis.pixels]);
}

const avgPool3dGradient: GradConfig = {
  kernelName: 'AvgPool3D',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attrs) => ({
    x: () =>
      axesOf(x, attrs).reduce<Tensor>((dx, axis, i) => {
        const [before, after] = [dx.shape.slice(0, i + 1), dx.shape.slice(i + 2)];
        const columns = reshape(dx, [util.sizeFromShape(before), axis.windows, util.sizeFromShape(after)]);
        return reshape(matMul(shares(axis), columns, true), [...before, axis.pixels, ...after]);
      }, dy as Tensor),
  }),
};

/** Windows with equal maxima are taken to have the first. */
const maxPool3dGradient: GradConfig = {
  kernelName: 'MaxPool3D',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attrs) => ({
    x: () => {
      const { inImage } = pauseTape(() => maxima(x, axesOf(x, attrs)));
      return reshape(scatterRowsAdd(reshape(dy as Tensor, [-1, 1]), inImage, x.size), x.shape);
    },
  }),
};

export const pooling3d: GradConfig[] = [avgPool3dGradient, maxPool3dGradient];
