import * as tf from '@tensorflow/tfjs-core';
import { crossEntropy } from '../../ops/cross-entropy.ts';
import { einsum } from '../../ops/einsum.ts';
import { gatherRows } from '../../ops/gather-rows.ts';
import { gelu } from '../../ops/gelu.ts';
import { l2Normalize } from '../../ops/l2-normalize.ts';
import { logSoftmax } from '../../ops/log-softmax.ts';
import { matMul } from '../../ops/mat-mul.ts';
import { rotaryEmbedding } from '../../ops/rotary-embedding.ts';
import { scatterRowsAdd } from '../../ops/scatter-rows-add.ts';
import { silu } from '../../ops/silu.ts';
import { takeAlongAxis } from '../../ops/take-along-axis.ts';
import type { GradientCase } from './case.ts';

const ids = (...values: number[]): tf.Tensor1D => tf.tensor1d(values, 'int32');

/** Operations of this package. */
export const composite: readonly GradientCase[] = [
  ['crossEntropy', (logits) => crossEntropy(logits, ids(2, 0)), '2x3'],
  ['einsum', (a, b) => einsum('bij,bjk->bik', a, b), '2x2x3, 2x3x2'],
  ['einsum over three', (a, b, c) => einsum('ij,jk,k->i', a, b, c), '2x3, 3x2, 2'],
  ['gatherRows', (table) => gatherRows(table, ids(2, 0, 2)), '3x2'],
  ['gelu', (x) => gelu(x), '5'],
  ['l2Normalize', (x) => l2Normalize(x), '2x3'],
  ['logSoftmax', (x) => logSoftmax(x), '2x4'],
  ['logSoftmax axis 0', (x) => logSoftmax(x, 0), '3x2'],
  ['matMul broadcast both', (a, b) => matMul(a, b, false, true), '2x1x2x2, 1x2x3x2'],
  ['rotaryEmbedding', (x, cos, sin) => rotaryEmbedding(x, cos, sin), '2x3x4, 3x2, 3x2'],
  [
    'rotaryEmbedding interleaved',
    (x, cos, sin) => rotaryEmbedding(x, cos, sin, { interleaved: true }),
    '3x4, 3x2, 3x2',
  ],
  ['scatterRowsAdd', (rows) => scatterRowsAdd(rows, ids(1, 1, 3), 4), '3x2'],
  ['silu', (x) => silu(x), '5'],
  ['takeAlongAxis', (x) => takeAlongAxis(x, tf.tensor2d([1, 0, 2, 2], [2, 2], 'int32'), 1), '2x3'],
];
