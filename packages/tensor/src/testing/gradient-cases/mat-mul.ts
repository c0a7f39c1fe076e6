import * as tf from '@tensorflow/tfjs-core';
import type { GradientCase, GradientCases } from './case.ts';

const transposes = [
  [false, false, '2x3, 3x4'],
  [true, false, '3x2, 3x4'],
  [false, true, '2x3, 4x3'],
  [true, true, '3x2, 4x3'],
] as const;

const named = (a: boolean, b: boolean): string => `${a ? 'transposed' : 'plain'} x ${b ? 'transposed' : 'plain'}`;

/** Matrix products. */
export const matMul: GradientCases = {
  BatchMatMul: [
    ...transposes.map(
      ([a, b, shapes]): GradientCase => [`matMul ${named(a, b)}`, (x, y) => tf.matMul(x, y, a, b), shapes],
    ),
    ['matMul batched', (a, b) => tf.matMul(a, b, false, true), '2x2x3, 2x4x3'],
    ['matMul batch x matrix', (a, b) => tf.matMul(a, b), '2x2x3, 3x2'],
    ['matMul batch x transposed matrix', (a, b) => tf.matMul(a, b, false, true), '2x2x3, 2x3'],
    ['matMul transposed batch x matrix', (a, b) => tf.matMul(a, b, true), '2x3x2, 3x2'],
    ['matMul matrix x batch', (a, b) => tf.matMul(a, b), '2x3, 2x3x2'],
    ['matMul broadcast left', (a, b) => tf.matMul(a, b, true), '1x3x2, 2x3x2'],
    ['matMul broadcast right', (a, b) => tf.matMul(a, b, true, true), '2x2x3x2, 1x2x2x3'],
    ['dot', (a, b) => tf.dot(a, b), '3, 3x2'],
    ['outerProduct', (a, b) => tf.outerProduct(a as tf.Tensor1D, b as tf.Tensor1D), '3, 2'],
  ],
};
