import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expectSame, floats, ints } from '../compare.testing.ts';

const FLAGS = [
  [false, false],
  [true, false],
  [false, true],
  [true, true],
] as const;

/** Batches of a and b. */
const BATCHES: [number[], number[]][] = [
  [[], []],
  [[3], [3]],
  [[3], []],
  [[3], [1]],
  [[1], [3]],
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3], []],
  [
    [1, 1],
    [2, 3],
  ],
];

describe.each(FLAGS)('matMul transposeA=%s transposeB=%s', (transposeA, transposeB) => {
  const a = (batch: number[], m: number, k: number) => [...batch, ...(transposeA ? [k, m] : [m, k])];
  const b = (batch: number[], k: number, n: number) => [...batch, ...(transposeB ? [n, k] : [k, n])];

  it.each(BATCHES)('over batches %j and %j', async (batchA, batchB) => {
    for (const [m, k, n] of [
      [3, 4, 5],
      [33, 17, 20],
      [1, 64, 70],
      [70, 64, 1],
    ] as const) {
      await expectSame(() =>
        tf.matMul(floats(a(batchA, m, k)), floats(b(batchB, k, n), -1, 1, 2), transposeA, transposeB),
      );
    }
  });

  it('of int32', () =>
    expectSame(() => tf.matMul(ints(a([], 20, 30)), ints(b([], 30, 20), -9, 9, 2), transposeA, transposeB)));

  it.each(['linear', 'relu', 'relu6', 'elu', 'sigmoid', 'prelu', 'leakyrelu'] as const)(
    'then %s',
    async (activation) => {
      for (const [m, k, n] of [
        [3, 4, 5],
        [33, 17, 20],
      ] as const) {
        await expectSame(() =>
          tf.fused.matMul({
            a: floats(a([2], m, k)) as tf.Tensor3D,
            b: floats(b([2], k, n), -1, 1, 2) as tf.Tensor3D,
            transposeA,
            transposeB,
            bias: floats([n], -1, 1, 3),
            activation,
            preluActivationWeights: activation === 'prelu' ? floats([n], 0, 1, 4) : undefined,
          }),
        );
      }
    },
  );
});

it('agrees with cpu whatever the sizes', () => {
  const size = fc.integer({ min: 1, max: 40 });
  return fc.assert(
    fc.asyncProperty(size, size, size, fc.boolean(), fc.boolean(), async (m, k, n, tA, tB) =>
      expectSame(() => tf.matMul(floats(tA ? [k, m] : [m, k]), floats(tB ? [n, k] : [k, n]), tA, tB)),
    ),
    { numRuns: 40 },
  );
});

it('names both shapes when inner sizes differ', async () => {
  await tf.setBackend('ort');
  expect(() => tf.matMul(tf.zeros([40, 50]), tf.zeros([40, 50]))).toThrow(/50.*40/);
});

describe('einsum', () => {
  it.each([
    ['ij,jk->ik', [40, 30], [30, 20]],
    ['bhqd,bhkd->bhqk', [2, 3, 10, 8], [2, 3, 12, 8]],
    ['i,j->ij', [30], [40]],
    ['ij,ij->', [20, 30], [20, 30]],
    ['bij,bjk->bik', [2, 3, 4], [2, 4, 5]],
  ])('%s', (equation, a, b) => expectSame(() => tf.einsum(equation, floats(a), floats(b, -1, 1, 2))));

  it.each([
    ['ij->ji', [40, 30]],
    ['ij->', [40, 30]],
    ['ijk->ik', [4, 30, 7]],
  ])('%s', (equation, a) => expectSame(() => tf.einsum(equation, floats(a))));
});
