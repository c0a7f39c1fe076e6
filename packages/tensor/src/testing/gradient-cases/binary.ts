import * as tf from '@tensorflow/tfjs-core';
import { type GradientCases, positive } from './case.ts';

const above = { sample: positive };

/** Elementwise operations of several arguments, with broadcasting. */
export const binary: GradientCases = {
  Add: [
    ['add', (a, b) => tf.add(a, b), '2x3, 3'],
    ['add scalar', (a, b) => tf.add(a, b), 'scalar, 2x2'],
  ],
  AddN: [['addN', (a, b) => tf.addN([a, b, a]), '3, 3']],
  Atan2: [['atan2', (a, b) => tf.atan2(a, b), '2x3, 3', above]],
  Maximum: [
    ['maximum', (a, b) => tf.maximum(a, b), '2x3, 2x3'],
    ['maximum broadcast', (a, b) => tf.maximum(a, b), '2x3, 3'],
  ],
  Minimum: [
    ['minimum', (a, b) => tf.minimum(a, b), '2x3, 2x3'],
    ['minimum broadcast', (a, b) => tf.minimum(a, b), '3, 2x3'],
  ],
  Mod: [['mod', (a, b) => tf.mod(a, b), '4, scalar', { sample: (i) => [2.3, 3.4, 4.8, 1.9, 1.3][i] }]],
  Multiply: [
    ['mul', (a, b) => tf.mul(a, b), '2x3, 1x3'],
    ['mul by itself', (a) => tf.mul(a, a), '3'],
  ],
  Pow: [
    ['pow', (a, b) => tf.pow(a, b), '2x3, 3', above],
    ['pow broadcast base', (a, b) => tf.pow(a, b), 'scalar, 3', above],
    ['pow constant', (a) => tf.pow(a, 3), '5'],
  ],
  Prelu: [['prelu', (x, alpha) => tf.prelu(x, alpha), '2x3, 3']],
  RealDiv: [
    ['div', (a, b) => tf.div(a, b), '2x3, 2x1', above],
    ['divNoNan', (a, b) => tf.divNoNan(a, b), '2x3, 3', above],
  ],
  Select: [
    ['where', (a, b) => tf.where(tf.greater(a, 0), a, b), '2x3, 2x3'],
    [
      'where broadcast branch',
      (a, b) => tf.where(tf.tensor([true, false, true], [3], 'bool'), tf.square(a), tf.exp(b)),
      '2x3, 1x3',
    ],
    ['where scalar branch', (a, b) => tf.where(tf.tensor([1, 0, 0, 1], [2, 2], 'bool'), a, tf.exp(b)), '2x2, scalar'],
    ['where broadcast condition', (a, b) => tf.where(tf.tensor([1, 0], [2, 1], 'bool'), a, tf.exp(b)), '2x3, 3'],
  ],
  SquaredDifference: [['squaredDifference', (a, b) => tf.squaredDifference(a, b), '2x3, 3']],
  Sub: [['sub', (a, b) => tf.sub(a, b), '2x1, 2x3']],
};
