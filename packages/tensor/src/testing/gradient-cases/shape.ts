import * as tf from '@tensorflow/tfjs-core';
import type { GradientCases } from './case.ts';

const four = (x: tf.Tensor): tf.Tensor4D => x as tf.Tensor4D;
const padding = (...borders: [number, number][]): [number, number][] => borders;

/** Operations that move elements. */
export const shape: GradientCases = {
  BatchToSpaceND: [['batchToSpaceND', (x) => tf.batchToSpaceND(x, [2], [[0, 1]]), '2x2x1']],
  Concat: [['concat', (a, b) => tf.concat([a, b, a], 1), '2x1, 2x2']],
  DepthToSpace: [['depthToSpace', (x) => tf.depthToSpace(four(x), 2, 'NHWC'), '1x1x2x4']],
  ExpandDims: [['expandDims squeeze', (x) => tf.squeeze(tf.expandDims(x, 1)), '3']],
  MirrorPad: [
    ['mirrorPad symmetric', (x) => tf.mirrorPad(x, padding([2, 1], [0, 1]), 'symmetric'), '3x2'],
    ['mirrorPad reflect', (x) => tf.mirrorPad(x, [[1, 1]], 'reflect'), '3'],
  ],
  Pack: [['stack', (a, b) => tf.stack([a, b, a], 1), '2x2, 2x2']],
  PadV2: [['pad', (x) => tf.pad(x, padding([1, 0], [0, 2]), 0.5), '2x2']],
  Reshape: [['reshape', (x) => tf.reshape(x, [3, 2]), '2x3']],
  Reverse: [['reverse', (x) => tf.mul(tf.reverse(x, [1]), x), '2x3']],
  Slice: [['slice', (x) => tf.slice(x, [0, 1], [2, 2]), '2x4']],
  SpaceToBatchND: [['spaceToBatchND', (x) => tf.spaceToBatchND(x, [2], [[0, 1]]), '1x3x1']],
  SplitV: [
    ['split', (x) => tf.split(x, [1, 3], 1), '2x4'],
    ['split, one part used', (x) => tf.split(x, 3)[1], '6'],
  ],
  StridedSlice: [
    ['stridedSlice', (x) => tf.stridedSlice(x, [0, 1], [3, 4], [2, 2]), '3x4'],
    ['stridedSlice backwards', (x) => tf.stridedSlice(x, [3, 0], [0, 2], [-2, 1]), '4x2'],
  ],
  Tile: [
    ['tile', (x) => tf.tile(x, [2, 3]), '2x2'],
    ['tile rank 3', (x) => tf.tile(x, [2, 1, 2]), '1x2x2'],
    ['tile rank 5', (x) => tf.tile(x, [2, 1, 1, 2, 1]), '1x1x2x2x1'],
    ['broadcastTo', (x) => tf.broadcastTo(x, [2, 2, 3]), '2x3'],
  ],
  Transpose: [['transpose', (x) => tf.transpose(x, [2, 0, 1]), '2x3x2']],
  Unpack: [['unstack', (x) => tf.unstack(x, 1), '2x3']],
};
