import { backend_util, type Dilation2DAttrs, type GradConfig, reshape, type Tensor } from '@tensorflow/tfjs-core';
import { scatterRowsAdd } from '../ops/scatter-rows-add.ts';
import { pauseTape } from './tape.ts';
import { maxima, type SlidingAxis } from './windows.ts';

/** tfjs's has none itself. `y = max over taps of x + filter`, so all of `dy` goes to the pixel and the tap that won. */
export const dilation: GradConfig = {
  kernelName: 'Dilation2D',
  inputsToSave: ['x', 'filter'],
  gradFunc: (dy, [x, filter], attrs) => {
    const { strides, pad, dilations } = attrs as unknown as Dilation2DAttrs;
    const info = backend_util.computeDilation2DInfo(
      x.shape as [number, number, number, number],
      filter.shape as [number, number, number],
      strides,
      pad,
      'NHWC',
      dilations,
    );
    const { dilationHeight, dilationWidth, padInfo } = info;
    const axes: SlidingAxis[] = [
      [info.inHeight, info.outHeight, info.strideHeight, info.filterHeight, dilationHeight, padInfo.top],
      [info.inWidth, info.outWidth, info.strideWidth, info.filterWidth, dilationWidth, padInfo.left],
    ].map(([pixels, windows, stride, size, dilation, padding]) => ({
      pixels,
      windows,
      stride,
      size,
      dilation,
      padding,
    }));
    const winners = (): ReturnType<typeof maxima> =>
      pauseTape(() => maxima(x, axes, reshape(filter, [-1, info.inChannels])));
    const scatter = (places: Tensor, like: Tensor): Tensor =>
      reshape(scatterRowsAdd(reshape(dy as Tensor, [-1, 1]), places, like.size), like.shape);
    return {
      x: () => scatter(winners().inImage, x),
      filter: () => scatter(winners().inWindow, filter),
    };
  },
};
