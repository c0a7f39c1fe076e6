import * as tf from '@tensorflow/tfjs-core';
import { batchNorm } from '../../ops/batch-norm.ts';
import { type GradientCases, positive } from './case.ts';

const four = (x: tf.Tensor): tf.Tensor4D => x as tf.Tensor4D;
const five = (x: tf.Tensor): tf.Tensor5D => x as tf.Tensor5D;
const one = (x: tf.Tensor): tf.Tensor1D => x as tf.Tensor1D;

/** Pooling, resizing and normalization of images. */
export const image: GradientCases = {
  AvgPool: [
    ['avgPool', (x) => tf.avgPool(four(x), 2, 2, 'valid'), '1x4x4x1'],
    ['avgPool same', (x) => tf.avgPool(four(x), 3, 2, 'same'), '1x4x4x1'],
  ],
  AvgPool3D: [
    ['avgPool3d', (x) => tf.avgPool3d(five(x), 2, 1, 'valid'), '1x2x3x2x2'],
    ['avgPool3d same', (x) => tf.avgPool3d(five(x), [2, 3, 2], 2, 'same'), '1x3x3x2x1'],
  ],
  FusedBatchNorm: [
    [
      'batchNorm',
      (x, m, v, o, s) => tf.batchNorm(x, one(m), one(tf.square(v)), one(o), one(s)),
      '2x2x2x3, 3, 3, 3, 3',
      { sample: (i) => positive(i) + 0.5 },
    ],
    [
      'batchNorm of batch statistics',
      (x) => {
        const { mean, variance } = tf.moments(x, 0);
        return batchNorm(x, mean, variance);
      },
      '4x2',
    ],
    [
      'batchNorm by element',
      (x, m, v) => batchNorm(x, m, tf.square(v)),
      '1x2x1x3, 1x2x1x3, 1x2x1x3',
      { sample: (i) => positive(i) + 0.5 },
    ],
  ],
  LRN: [
    ['localResponseNormalization', (x) => tf.localResponseNormalization(four(x), 1, 1, 0.7, 0.5), '1x2x1x4'],
    ['localResponseNormalization wide', (x) => tf.localResponseNormalization(four(x), 5, 2, 0.3, 0.75), '1x1x2x3'],
  ],
  MaxPool: [
    ['maxPool', (x) => tf.maxPool(four(x), 2, 2, 'valid'), '1x4x4x1'],
    ['maxPool overlapping', (x) => tf.maxPool(four(x), 3, 1, 'same'), '1x3x3x2'],
  ],
  MaxPoolGrad: [
    [
      'gradient for the input',
      (dy) => {
        const input = tf.tensor4d([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3], [1, 4, 4, 1]);
        const inputs = { dy, input, output: tf.maxPool(input, 3, 1, 'valid') };
        const attrs = { filterSize: 3, strides: 1, pad: 'valid' };
        return tf.engine().runKernel('MaxPoolGrad', inputs, attrs) as tf.Tensor;
      },
      '1x2x2x1',
    ],
  ],
  MaxPool3D: [
    ['maxPool3d', (x) => tf.maxPool3d(five(x), 2, 1, 'valid'), '1x2x3x2x2'],
    ['maxPool3d same', (x) => tf.maxPool3d(five(x), [2, 3, 2], 2, 'same'), '2x3x3x1x1'],
  ],
  ResizeBilinear: [
    ['resizeBilinear', (x) => tf.image.resizeBilinear(four(x), [4, 4]), '1x2x3x1'],
    ['resizeBilinear aligned', (x) => tf.image.resizeBilinear(four(x), [3, 2], true), '1x2x3x1'],
    ['resizeBilinear half-pixel', (x) => tf.image.resizeBilinear(four(x), [4, 5], false, true), '1x2x3x1'],
  ],
  ResizeNearestNeighbor: [
    ['resizeNearestNeighbor', (x) => tf.image.resizeNearestNeighbor(four(x), [4, 4]), '1x2x3x1'],
    ['resizeNearestNeighbor smaller', (x) => tf.image.resizeNearestNeighbor(four(x), [1, 2], true), '1x2x3x1'],
  ],
};
