import * as tf from '@tensorflow/tfjs-core';
import type { GradientCases } from './case.ts';

const list = (): tf.Tensor1D & { dtype: 'int32' } => tf.tensor1d([2, 0, 2], 'int32') as never;
const matrix = (): tf.Tensor2D & { dtype: 'int32' } => tf.tensor2d([2, 0, 1, 1], [2, 2], 'int32') as never;

/** Operations that look elements up or put them in places. */
export const indexing: GradientCases = {
  GatherNd: [['gatherND', (x) => tf.gatherND(x, matrix()), '3x2']],
  GatherV2: [
    ['gather', (x) => tf.gather(x, list()), '3x2'],
    ['gather axis 1', (x) => tf.gather(x, list(), 1), '2x3x2'],
    ['gather matrix of ids', (x) => tf.gather(x, matrix()), '3x2'],
    ['gather last axis, matrix of ids', (x) => tf.gather(x, matrix(), -1), '2x3'],
    ['gather batchDims', (x) => tf.gather(x, matrix(), 1, 1), '2x3'],
  ],
  ScatterNd: [['scatterND', (x) => tf.scatterND(tf.reshape(list(), [3, 1]), x, [4, 2]), '3x2']],
  UnsortedSegmentSum: [
    ['unsortedSegmentSum', (x) => tf.unsortedSegmentSum(x, tf.tensor1d([1, 0, 1], 'int32'), 3), '3x2'],
    ['unsortedSegmentSum dropping', (x) => tf.unsortedSegmentSum(x, tf.tensor1d([1, -1, 1], 'int32'), 2), '3x2'],
  ],
};
