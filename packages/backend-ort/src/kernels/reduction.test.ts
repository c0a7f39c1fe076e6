import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { bools, expectSame, floats, ints } from '../compare.testing.ts';

type Reduce = (x: tf.Tensor, axis?: number | number[], keepDims?: boolean) => tf.Tensor;

const AXES = [undefined, 0, 1, 2, -1, [0, 1], [1, 2], [0, 2], [0, 1, 2]];
const SHAPES = [
  [2, 3, 4],
  [20, 15, 12],
];

describe.each<[string, Reduce]>([
  ['sum', tf.sum],
  ['mean', tf.mean],
  ['max', tf.max],
  ['min', tf.min],
  ['prod', tf.prod],
])('%s', (name, op) => {
  it.each(SHAPES)('over every choice of axes of [%d, %d, %d]', async (...shape) => {
    for (const axis of AXES) {
      for (const keepDims of [false, true]) {
        await expectSame(() => [
          op(floats(shape, name === 'prod' ? 0.9 : -1, name === 'prod' ? 1.1 : 1), axis, keepDims),
          op(ints(shape, name === 'prod' ? 1 : -9, name === 'prod' ? 2 : 9), axis, keepDims),
        ]);
      }
    }
  });

  it.each([8, 4000])('keeps NaN and infinities among %d', (size) =>
    expectSame(() => {
      const x = tf.tensor2d(
        Array.from({ length: size }, (_, i) => (i % 4 === 3 ? Number.NaN : i)),
        [4, size / 4],
      );
      const y = tf.tensor2d(
        Array.from({ length: size }, (_, i) => (i === 3 ? Number.NEGATIVE_INFINITY : 1)),
        [4, size / 4],
      );
      return [op(x, 0), op(x, 1), op(y, 0), op(y, 1)];
    }),
  );
});

describe('other reductions', () => {
  it.each(SHAPES)('any, all, sum and mean of bool [%d, %d, %d]', async (...shape) => {
    for (const axis of AXES) {
      await expectSame(() => [
        tf.any(bools(shape), axis),
        tf.all(bools(shape), axis),
        tf.sum(bools(shape), axis),
        tf.mean(bools(shape), axis),
      ]);
    }
  });

  it.each(SHAPES)('argMax and argMin of [%d, %d, %d]', async (...shape) => {
    for (const axis of [0, 1, 2, -1]) {
      await expectSame(() => [
        tf.argMax(floats(shape), axis),
        tf.argMin(floats(shape), axis),
        tf.argMax(ints(shape), axis),
        tf.argMin(tf.zeros(shape), axis),
      ]);
    }
  });

  it.each([[[5]], [[3, 4]], [[30, 40]], [[4, 20, 33]]])('softmax and logSoftmax of %j', (shape) =>
    expectSame(() => [
      tf.softmax(floats(shape, -9, 9)),
      tf.logSoftmax(floats(shape, -9, 9)),
      tf.softmax(floats(shape, -900, 900)),
    ]),
  );

  it('softmax and logSumExp with masked logits', () =>
    expectSame(() => {
      const mask = tf.tensor2d(
        Array.from({ length: 1600 }, (_, i) => (i % 40 > i / 40 ? -1e9 : 0)),
        [40, 40],
      );
      return [tf.softmax(mask), tf.logSumExp(mask, 1)];
    }));

  it.each(SHAPES)('cumsum of [%d, %d, %d]', async (...shape) => {
    for (const axis of [0, 1, 2]) {
      for (const [exclusive, reverse] of [
        [false, false],
        [true, false],
        [false, true],
        [true, true],
      ] as const) {
        await expectSame(() => [
          tf.cumsum(floats(shape), axis, exclusive, reverse),
          tf.cumsum(ints(shape), axis, exclusive, reverse),
        ]);
      }
    }
  });

  it.each([
    [[9], 3],
    [[5, 200], 7],
    [[4, 5, 60], 60],
    [[3, 800], 1],
  ] as const)('topk of %j, k=%d', (shape, k) =>
    expectSame(() => {
      const [a, b] = [tf.topk(floats([...shape]), k), tf.topk(ints([...shape], -99999, 99999), k)];
      return [a.values, a.indices, b.values];
    }),
  );

  it('topk of equal values prefers the first', () => expectSame(() => tf.topk(tf.zeros([4, 300]), 5).indices));

  it('agrees with cpu whatever the shape and axes', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 5 }).chain((shape) =>
          fc.tuple(
            fc.constant(shape),
            fc.subarray(
              shape.map((_, i) => i),
              { minLength: 1 },
            ),
          ),
        ),
        async ([shape, axes]) => expectSame(() => [tf.sum(floats(shape), axes), tf.max(floats(shape), axes, true)]),
      ),
      { numRuns: 60 },
    ));
});
