import * as tf from '@tensorflow/tfjs-core';
import type { GradientCases } from './case.ts';

const zeros = (): tf.Tensor => tf.tensor1d([1, 0, 1, 0, 1]);

/** Reductions, scans and normalizations along axes. */
export const reduction: GradientCases = {
  Cumprod: [
    ['cumprod', (x) => tf.cumprod(x, 1), '2x3'],
    ['cumprod axis 0', (x) => tf.cumprod(x, 0), '6x2'],
    ['cumprod of zeros, exclusive reverse', (x) => tf.cumprod(tf.mul(x, zeros()), 1, true, true), '2x5'],
  ],
  Cumsum: [
    ['cumsum', (x) => tf.cumsum(x, 1), '2x4'],
    ['cumsum exclusive reverse', (x) => tf.cumsum(x, 0, true, true), '3x2'],
  ],
  Max: [
    ['max', (x) => tf.max(x, 1), '2x3'],
    ['max all', (x) => tf.max(x), '2x3'],
    ['max keepDims', (x) => tf.max(x, 0, true), '2x3'],
    ['logSumExp', (x) => tf.logSumExp(x, 1), '2x4'],
    ['logSumExp keepDims', (x) => tf.logSumExp(x, [0, 1], true), '2x4'],
  ],
  Mean: [
    ['mean', (x) => tf.mean(x, -1, true), '2x3'],
    ['mean all', (x) => tf.mean(x), '2x3'],
    [
      'moments',
      (x) => {
        const { mean, variance } = tf.moments(x, 1, true);
        return [mean, variance];
      },
      '2x3',
    ],
  ],
  Min: [
    ['min', (x) => tf.min(x, [0, 1]), '2x3x2'],
    ['min all', (x) => tf.min(x), '2x3'],
  ],
  Prod: [
    ['prod', (x) => tf.prod(x, 1), '2x3'],
    ['prod all', (x) => tf.prod(x), '2x2'],
    ['prod keepDims', (x) => tf.prod(x, 0, true), '3x2'],
  ],
  Softmax: [['softmax', (x) => tf.softmax(x), '2x4']],
  Sum: [
    ['sum', (x) => tf.sum(x, [0, 2]), '2x3x2'],
    ['sum keepDims', (x) => tf.sum(x, 1, true), '2x3'],
    ['norm', (x) => tf.norm(x, 'euclidean', 1), '2x3'],
  ],
};
