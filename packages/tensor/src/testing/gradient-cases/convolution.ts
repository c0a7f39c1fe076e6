import * as tf from '@tensorflow/tfjs-core';
import type { GradientCases } from './case.ts';

const four = (x: tf.Tensor): tf.Tensor4D => x as tf.Tensor4D;
const five = (x: tf.Tensor): tf.Tensor5D => x as tf.Tensor5D;
const run = (kernel: string, inputs: Record<string, tf.Tensor>, attrs: object): tf.Tensor =>
  tf.engine().runKernel(kernel, inputs, attrs as Record<string, never>) as tf.Tensor;

const flat = { strides: 1, pad: 'same', dataFormat: 'NHWC', dimRoundingMode: undefined };
const channelwise = { strides: 1, pad: 'same', dilations: [1, 1], dimRoundingMode: undefined };

/** Convolutions, and the kernels of their own gradients. */
export const convolution: GradientCases = {
  Conv2D: [
    ['conv1d', (x, w) => tf.conv1d(x as tf.Tensor3D, w as tf.Tensor3D, 1, 'same'), '1x4x2, 3x2x2'],
    ['conv2d valid', (x, w) => tf.conv2d(four(x), four(w), 1, 'valid'), '1x3x3x2, 2x2x2x2'],
    ['conv2d same strided', (x, w) => tf.conv2d(four(x), four(w), 2, 'same'), '1x4x3x1, 3x3x1x2'],
    ['conv2d explicit padding', (x, w) => tf.conv2d(four(x), four(w), 1, 1), '2x3x3x1, 3x3x1x1'],
    ['conv2d dilated', (x, w) => tf.conv2d(four(x), four(w), 1, 'valid', 'NHWC', 2), '1x4x4x1, 2x2x1x1'],
  ],
  Conv2DBackpropFilter: [
    [
      'gradient for the filter',
      (x, dy) => run('Conv2DBackpropFilter', { x, dy }, { ...flat, filterShape: [2, 2, 1, 2] }),
      '1x3x3x1, 1x3x3x2',
    ],
  ],
  Conv2DBackpropInput: [
    ['conv2dTranspose', (x, w) => tf.conv2dTranspose(four(x), four(w), [1, 4, 4, 2], 2, 'same'), '1x2x2x1, 3x3x2x1'],
  ],
  Conv3D: [['conv3d', (x, w) => tf.conv3d(five(x), five(w), 1, 'same'), '1x2x2x2x1, 2x2x2x1x1']],
  Conv3DBackpropFilterV2: [
    [
      'gradient for the filter',
      (x, dy) => run('Conv3DBackpropFilterV2', { x, dy }, { strides: 1, pad: 'valid', filterShape: [1, 2, 2, 1, 1] }),
      '1x2x2x2x1, 1x2x1x1x1',
    ],
  ],
  Conv3DBackpropInputV2: [
    [
      'conv3dTranspose',
      (x, w) => tf.conv3dTranspose(five(x), five(w), [1, 2, 2, 2, 1], 1, 'same'),
      '1x2x2x2x1, 2x2x1x1x1',
    ],
  ],
  DepthwiseConv2dNative: [
    ['depthwiseConv2d', (x, w) => tf.depthwiseConv2d(four(x), four(w), 1, 'same'), '1x3x3x2, 2x2x2x1'],
    ['depthwiseConv2d multiplier', (x, w) => tf.depthwiseConv2d(four(x), four(w), 2, 'same'), '1x4x4x1, 3x3x1x2'],
    [
      'depthwiseConv2d dilated',
      (x, w) => tf.depthwiseConv2d(four(x), four(w), 1, 'valid', 'NHWC', 2),
      '1x4x4x1, 2x2x1x2',
    ],
    [
      'separableConv2d',
      (x, d, p) => tf.separableConv2d(four(x), four(d), four(p), 1, 'same'),
      '1x3x3x1, 2x2x1x2, 1x1x2x2',
    ],
  ],
  DepthwiseConv2dNativeBackpropFilter: [
    [
      'gradient for the filter',
      (x, dy) => run('DepthwiseConv2dNativeBackpropFilter', { x, dy }, { ...channelwise, filterShape: [2, 2, 2, 1] }),
      '1x3x2x2, 1x3x2x2',
    ],
  ],
  DepthwiseConv2dNativeBackpropInput: [
    [
      'gradient for the input',
      (dy, filter) =>
        run('DepthwiseConv2dNativeBackpropInput', { dy, filter }, { ...channelwise, inputShape: [1, 3, 2, 2] }),
      '1x3x2x2, 2x2x2x1',
    ],
  ],
  Dilation2D: [
    ['dilation2d', (x, w) => tf.dilation2d(four(x), w as tf.Tensor3D, 1, 'same'), '1x3x3x2, 2x2x2', { eps: 1 / 256 }],
    [
      'dilation2d strided',
      (x, w) => tf.dilation2d(four(x), w as tf.Tensor3D, 2, 'valid'),
      '2x4x3x1, 2x3x1',
      { eps: 1 / 256 },
    ],
    [
      'dilation2d dilated',
      (x, w) => tf.dilation2d(four(x), w as tf.Tensor3D, 1, 'same', 2),
      '1x4x4x1, 2x2x1',
      { eps: 1 / 256 },
    ],
  ],
};
