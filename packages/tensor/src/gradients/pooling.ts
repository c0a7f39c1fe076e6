import {
  type AvgPoolAttrs,
  backend_util,
  engine,
  type GradConfig,
  gather,
  type MaxPoolGradAttrs,
  maxPoolWithArgmax,
  mul,
  ones,
  reshape,
  type Tensor,
  type Tensor4D,
  tensor4d,
  zerosLike,
} from '@tensorflow/tfjs-core';
import { pauseTape } from './tape.ts';

type Shape4D = [number, number, number, number];

/** tfjs has none, so max pooling had no second-order gradient. Windows with equal maxima are taken to have the first. */
const maxPoolGradGradient: GradConfig = {
  kernelName: 'MaxPoolGrad',
  inputsToSave: ['dy', 'input', 'output'],
  gradFunc: (ddx, [dy, input, output], attrs) => {
    const { filterSize, strides, pad } = attrs as unknown as MaxPoolGradAttrs;
    return {
      dy: () => {
        const places = pauseTape(
          () => maxPoolWithArgmax(input as Tensor4D, filterSize, strides, pad as number, true).indexes,
        );
        return reshape(
          gather(reshape(ddx as Tensor, [-1]), reshape(places, [-1]) as Tensor & { dtype: 'int32' }),
          dy.shape,
        );
      },
      input: () => zerosLike(input),
      output: () => zerosLike(output),
    };
  },
};

/**
 * tfjs's has no gradient itself, and divides by the size of the window where the forward pass divides by the number of
 * pixels in it that are not padding. Here: a transposed depthwise convolution of `dy / count` by ones.
 */
const avgPoolGradient: GradConfig = {
  kernelName: 'AvgPool',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attrs) => {
    const { filterSize, strides, pad, dimRoundingMode } = attrs as unknown as AvgPoolAttrs;
    const info = backend_util.computePool2DInfo(x.shape as Shape4D, filterSize, strides, 1, pad, dimRoundingMode);
    const rows = counts(info.outHeight, info.strideHeight, info.filterHeight, info.padInfo.top, info.inHeight);
    const columns = counts(info.outWidth, info.strideWidth, info.filterWidth, info.padInfo.left, info.inWidth);
    return {
      x: () => {
        const share = tensor4d(
          rows.flatMap((row) => columns.map((column) => 1 / (row * column))),
          [1, rows.length, columns.length, 1],
        );
        const filter = ones([info.filterHeight, info.filterWidth, info.inChannels, 1]);
        return engine().runKernel(
          'DepthwiseConv2dNativeBackpropInput',
          { dy: mul(dy as Tensor, share), filter },
          { strides, pad, dilations: [1, 1], inputShape: x.shape, ...(dimRoundingMode && { dimRoundingMode }) },
        ) as Tensor;
      },
    };
  },
};

/** For each window along one axis the number of its pixels inside the image. */
function counts(windows: number, stride: number, size: number, padding: number, pixels: number): number[] {
  return Array.from({ length: windows }, (_, i) => {
    const from = i * stride - padding;
    return Math.min(from + size, pixels) - Math.max(from, 0);
  });
}

export const pooling: GradConfig[] = [maxPoolGradGradient, avgPoolGradient];
