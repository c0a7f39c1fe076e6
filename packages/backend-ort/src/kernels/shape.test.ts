import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { bools, expectSame, floats, ints } from '../compare.testing.ts';

const MAKERS = { float32: floats, int32: ints, bool: (shape: number[]) => bools(shape) } as const;

describe.each(Object.entries(MAKERS))('of %s', (dtype, make) => {
  it.each([[[2, 3, 4]], [[20, 15, 12]]])('transpose %j', async (shape) => {
    for (const perm of [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
    ]) {
      await expectSame(() => tf.transpose(make(shape), perm));
    }
  });

  it.each([[[2, 3, 4]], [[20, 15, 12]]])('slice and stridedSlice %j', (shape) =>
    expectSame(() => {
      const x = make(shape);
      return [
        tf.slice(x, [1, 0, 0], [1, -1, -1]),
        tf.slice(x, [0, 1, 1], [2, 2, 2]),
        tf.slice(x, 1),
        tf.slice(x, [0, 0, 3], [-1, -1, 1]),
        tf.stridedSlice(x, [0, 0, 0], shape, [1, 2, 3]),
        tf.stridedSlice(x, [-1, 2, 3], [0, 0, 1], [-1, -1, -2]),
        tf.stridedSlice(x, [1, 2, 3], [-1 - shape[0]!, -1 - shape[1]!, -1 - shape[2]!], [-1, -1, -1]),
        tf.stridedSlice(x, [1, 0, 0], [2, 2, 0], [1, 1, 1], 0, 4, 0, 0, 1),
      ];
    }),
  );

  it.each([[[6, 4]], [[4, 30, 20]], [[60, 40]]])('split, unstack, concat, stack %j', async (shape) => {
    for (let axis = 0; axis < shape.length; axis++) {
      const n = shape[axis]!;
      await expectSame(() => {
        const x = make(shape);
        return [
          ...tf.split(x, 2, axis),
          ...tf.split(x, [1, n - 3, 2], axis),
          ...tf.unstack(x, axis),
          tf.concat([x, make(shape), x], axis),
          tf.stack([x, x, make(shape)], axis),
          tf.concat(
            [
              x,
              tf.slice(
                x,
                shape.map(() => 0),
                shape.map((d, i) => (i === axis ? 1 : d)),
              ),
            ],
            axis,
          ),
        ];
      });
    }
  });

  it.each([[[2, 3]], [[40, 30]]])('pad, tile, reverse %j', (shape) =>
    expectSame(() => {
      const x = make(shape);
      const tiled = [tf.tile(x, [3, 1]), tf.tile(x, [2, 4])];
      const reversed = [tf.reverse(x, 0), tf.reverse(x, [0, 1]), tf.reverse(x)];
      return dtype === 'bool'
        ? [...tiled, ...reversed]
        : [
            ...tiled,
            ...reversed,
            tf.pad(x, [
              [1, 2],
              [0, 3],
            ]),
            tf.pad(
              x,
              [
                [0, 1],
                [2, 0],
              ],
              7,
            ),
          ];
    }),
  );

  it.each([[[5]], [[60, 50]]])('cast %j', (shape) =>
    expectSame(() => (['float32', 'int32', 'bool'] as const).map((to) => tf.cast(make(shape), to))),
  );
});

it.each([1, 1000])('cast of special values, %d times', (times) =>
  expectSame(() => {
    const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, -0, 1.9, -1.9, 3e9, -3e9];
    const x = tf.tensor1d(Array.from({ length: times }, () => special).flat());
    return [tf.cast(x, 'int32'), tf.cast(x, 'bool'), tf.cast(tf.cast(x, 'int32'), 'float32')];
  }),
);

it('slices and transposes as cpu does, whatever the shape', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.nat(8), fc.nat(8), fc.float()), {
        minLength: 1,
        maxLength: 4,
      }),
      async (dims) => {
        const shape = dims.map(([n]) => n);
        const begin = dims.map(([n, a]) => a % n);
        const size = dims.map(([n, a, b]) => 1 + (b % (n - (a % n))));
        const perm = shape.map((_, i) => i).sort((i, j) => dims[i]![3] - dims[j]![3] || i - j);
        await expectSame(() => [tf.slice(floats(shape), begin, size), tf.transpose(ints(shape), perm)]);
      },
    ),
    { numRuns: 60 },
  ));
