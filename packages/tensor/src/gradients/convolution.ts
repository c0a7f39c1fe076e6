import {
  type Conv2DAttrs,
  type Conv2DBackpropFilterAttrs,
  conv2d,
  conv3d,
  type DepthwiseConv2dNativeAttrs,
  type DepthwiseConv2dNativeBackpropFilterAttrs,
  depthwiseConv2d,
  engine,
  type GradConfig,
  pad,
  reshape,
  slice,
  type Tensor,
  type Tensor4D,
  type Tensor5D,
} from '@tensorflow/tfjs-core';

/*
 * tfjs refuses to differentiate dilated convolutions, and has no gradients for the kernels that its first-order
 * gradients use, so that second-order ones stop with "gradient function not found for Conv2DBackpropFilter".
 * A convolution is linear in each of input `x` and filter `w`; with `<dy, conv(x, w)> = <x, toInput(dy, w)> =
 * <w, toFilter(x, dy)>` the gradients of the three follow from one another.
 */

type Dilations = number | [number, number];

const run = (kernel: string, inputs: Record<string, Tensor>, attrs: object): Tensor =>
  engine().runKernel(kernel, inputs, attrs as Record<string, never>) as Tensor;

const pair = (dilations: Dilations): [number, number] =>
  typeof dilations === 'number' ? [dilations, dilations] : dilations;

/** The filter `[height, width, in, out]` with zeros between its taps: convolving by it is convolving dilated. */
function dilate(filter: Tensor, dilations: Dilations): Tensor {
  const [dh, dw] = pair(dilations ?? 1);
  if (dh === 1 && dw === 1) return filter;
  const [h, w, inputs, outputs] = filter.shape;
  const zeros: [number, number][] = [
    [0, 0],
    [0, dh - 1],
    [0, 0],
    [0, dw - 1],
    [0, 0],
  ];
  const spread = pad(reshape(filter, [h, 1, w, 1, inputs * outputs]), zeros);
  return slice(reshape(spread, [h * dh, w * dw, inputs, outputs]), [0, 0, 0, 0], dilatedShape(filter.shape, dilations));
}

function dilatedShape([h, w, inputs, outputs]: number[], dilations: Dilations): number[] {
  const [dh, dw] = pair(dilations ?? 1);
  return [(h - 1) * dh + 1, (w - 1) * dw + 1, inputs, outputs];
}

/** The taps of a dilated filter: the adjoint of `dilate`. */
function taps(dilated: Tensor, shape: number[], dilations: Dilations): Tensor {
  const [dh, dw] = pair(dilations ?? 1);
  if (dh === 1 && dw === 1) return dilated;
  const [h, w, inputs, outputs] = shape;
  const zeros: [number, number][] = [
    [0, dh - 1],
    [0, dw - 1],
    [0, 0],
    [0, 0],
  ];
  const blocks = reshape(pad(dilated, zeros), [h, dh, w, dw, inputs * outputs]);
  return reshape(slice(blocks, [0, 0, 0, 0, 0], [h, 1, w, 1, inputs * outputs]), shape);
}

const conv2dGradient: GradConfig = {
  kernelName: 'Conv2D',
  inputsToSave: ['x', 'filter'],
  gradFunc: (dy, [x, filter], attrs) => {
    const { strides, pad, dataFormat, dimRoundingMode, dilations } = attrs as unknown as Conv2DAttrs;
    const shared = { strides, pad, dataFormat, dimRoundingMode };
    const filterShape = dilatedShape(filter.shape, dilations);
    return {
      x: () =>
        run(
          'Conv2DBackpropInput',
          { dy: dy as Tensor, filter: dilate(filter, dilations) },
          { ...shared, inputShape: x.shape },
        ),
      filter: () =>
        taps(run('Conv2DBackpropFilter', { x, dy: dy as Tensor }, { ...shared, filterShape }), filter.shape, dilations),
    };
  },
};

const conv2dFilterGradient: GradConfig = {
  kernelName: 'Conv2DBackpropFilter',
  inputsToSave: ['x', 'dy'],
  gradFunc: (ddw, [x, dy], attrs) => {
    const { strides, pad, dataFormat, dimRoundingMode } = attrs as unknown as Conv2DBackpropFilterAttrs;
    const filter = ddw as Tensor4D;
    return {
      x: () =>
        run('Conv2DBackpropInput', { dy, filter }, { strides, pad, dataFormat, dimRoundingMode, inputShape: x.shape }),
      dy: () => conv2d(x as Tensor4D, filter, strides, pad as number, dataFormat, 1, dimRoundingMode),
    };
  },
};

const depthwiseGradient: GradConfig = {
  kernelName: 'DepthwiseConv2dNative',
  inputsToSave: ['x', 'filter'],
  gradFunc: (dy, [x, filter], attrs) => {
    const { strides, pad, dimRoundingMode, dilations } = attrs as unknown as DepthwiseConv2dNativeAttrs;
    const shared = { strides, pad, dimRoundingMode, dilations: [1, 1] };
    const filterShape = dilatedShape(filter.shape, dilations);
    return {
      x: () =>
        run(
          'DepthwiseConv2dNativeBackpropInput',
          { dy: dy as Tensor, filter: dilate(filter, dilations) },
          { ...shared, inputShape: x.shape },
        ),
      filter: () =>
        taps(
          run('DepthwiseConv2dNativeBackpropFilter', { x, dy: dy as Tensor }, { ...shared, filterShape }),
          filter.shape,
          dilations,
        ),
    };
  },
};

const depthwiseInputGradient: GradConfig = {
  kernelName: 'DepthwiseConv2dNativeBackpropInput',
  inputsToSave: ['dy', 'filter'],
  gradFunc: (ddx, [dy, filter], attrs) => {
    const { strides, pad, dimRoundingMode } = attrs as unknown as DepthwiseConv2dNativeBackpropFilterAttrs;
    const x = ddx as Tensor4D;
    return {
      dy: () => depthwiseConv2d(x, filter as Tensor4D, strides, pad as number, 'NHWC', 1, dimRoundingMode),
      filter: () =>
        run(
          'DepthwiseConv2dNativeBackpropFilter',
          { x, dy },
          { strides, pad, dimRoundingMode, dilations: [1, 1], filterShape: filter.shape },
        ),
    };
  },
};

const depthwiseFilterGradient: GradConfig = {
  kernelName: 'DepthwiseConv2dNativeBackpropFilter',
  inputsToSave: ['x', 'dy'],
  gradFunc: (ddw, [x, dy], attrs) => {
    const { strides, pad, dimRoundingMode } = attrs as unknown as DepthwiseConv2dNativeBackpropFilterAttrs;
    const filter = ddw as Tensor4D;
    return {
      x: () =>
        run(
          'DepthwiseConv2dNativeBackpropInput',
          { dy, filter },
          { strides, pad, dimRoundingMode, dilations: [1, 1], inputShape: x.shape },
        ),
      dy: () => depthwiseConv2d(x as Tensor4D, filter, strides, pad as number, 'NHWC', 1, dimRoundingMode),
    };
  },
};

interface Conv3DAttrs {
  readonly strides: number | [number, number, number];
  readonly pad: 'valid' | 'same';
}

const conv3dInputGradient: GradConfig = {
  kernelName: 'Conv3DBackpropInputV2',
  inputsToSave: ['dy', 'filter'],
  gradFunc: (ddx, [dy, filter], attrs) => {
    const { strides, pad } = attrs as unknown as Conv3DAttrs;
    const x = ddx as Tensor5D;
    return {
      dy: () => conv3d(x, filter as Tensor5D, strides, pad),
      filter: () => run('Conv3DBackpropFilterV2', { x, dy }, { strides, pad, filterShape: filter.shape }),
    };
  },
};

const conv3dFilterGradient: GradConfig = {
  kernelName: 'Conv3DBackpropFilterV2',
  inputsToSave: ['x', 'dy'],
  gradFunc: (ddw, [x, dy], attrs) => {
    const { strides, pad } = attrs as unknown as Conv3DAttrs;
    const filter = ddw as Tensor5D;
    return {
      x: () => run('Conv3DBackpropInputV2', { dy, filter }, { strides, pad, inputShape: x.shape }),
      dy: () => conv3d(x as Tensor5D, filter, strides, pad),
    };
  },
};

export const convolution: GradConfig[] = [
  conv2dGradient,
  conv2dFilterGradient,
  depthwiseGradient,
  depthwiseInputGradient,
  depthwiseFilterGradient,
  conv3dInputGradient,
  conv3dFilterGradient,
];
