import type * as tf from '@tensorflow/tfjs-core';
import { fused as operations } from '../../ops/fused.ts';
import type { GradientCase } from './case.ts';

const four = (x: tf.Tensor): tf.Tensor4D => x as tf.Tensor4D;
const activations = ['linear', 'relu', 'relu6', 'elu', 'leakyrelu', 'sigmoid', 'prelu'] as const;
type Activation = (typeof activations)[number];

// Sums of products may come near a kink.
const options = { eps: 1 / 256, atol: 1e-3 };
const activated = (
  activation: Activation,
  weights: tf.Tensor,
): { activation: Activation; preluActivationWeights?: tf.Tensor; leakyreluAlpha?: number } => ({
  activation,
  ...(activation === 'prelu' && { preluActivationWeights: weights }),
  ...(activation === 'leakyrelu' && { leakyreluAlpha: 0.2 }),
});

/** Operations that add a bias and apply an activation in one kernel where no gradient is taken. */
export const fused: readonly GradientCase[] = [
  ...activations.map(
    (activation): GradientCase => [
      `fused matMul ${activation}`,
      (a, b, bias) => operations.matMul({ a, b, bias, ...activated(activation, bias) }),
      '2x3, 3x4, 4',
      options,
    ],
  ),
  ['fused matMul without bias', (a, b) => operations.matMul({ a, b }), '2x3, 3x4'],
  ['fused matMul transposeA', (a, b, bias) => operations.matMul({ a, b, bias, transposeA: true }), '3x2, 3x4, 4'],
  ['fused matMul transposeB', (a, b, bias) => operations.matMul({ a, b, bias, transposeB: true }), '2x3, 4x3, 4'],
  [
    'fused matMul transposed both',
    (a, b, bias) => operations.matMul({ a, b, bias, transposeA: true, transposeB: true }),
    '3x2, 4x3, 4',
  ],
  ['fused matMul batched', (a, b, bias) => operations.matMul({ a, b, bias }), '2x2x3, 2x3x2, 2'],
  ['fused matMul batch x matrix', (a, b, bias) => operations.matMul({ a, b, bias }), '2x2x3, 3x2, 2'],
  ...activations.map(
    (activation): GradientCase => [
      `fused conv2d ${activation}`,
      (x, filter, bias) =>
        operations.conv2d({
          x: four(x),
          filter: four(filter),
          bias,
          strides: 1,
          pad: 'same',
          ...activated(activation, bias),
        }),
      '1x3x3x1, 2x2x1x2, 2',
      options,
    ],
  ),
  [
    'fused conv2d strided without bias',
    (x, filter) => operations.conv2d({ x: four(x), filter: four(filter), strides: 2, pad: 'same' }),
    '1x4x3x1, 3x3x1x2',
  ],
  [
    'fused conv2d dilated',
    (x, filter) => operations.conv2d({ x: four(x), filter: four(filter), strides: 1, pad: 'valid', dilations: 2 }),
    '1x4x4x1, 2x2x1x1',
  ],
  ...activations.map(
    (activation): GradientCase => [
      `fused depthwiseConv2d ${activation}`,
      (x, filter, bias) =>
        operations.depthwiseConv2d({
          x: four(x),
          filter: four(filter),
          bias,
          strides: 1,
          pad: 'same',
          ...activated(activation, bias),
        }),
      '1x3x2x2, 2x2x2x1, 2',
      options,
    ],
  ),
  [
    'fused depthwiseConv2d dilated',
    (x, filter) =>
      operations.depthwiseConv2d({ x: four(x), filter: four(filter), strides: 1, pad: 'valid', dilations: 2 }),
    '1x4x4x1, 2x2x1x2',
  ],
];
