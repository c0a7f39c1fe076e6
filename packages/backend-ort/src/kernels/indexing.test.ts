import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { expectSame, floats, ints } from '../compare.testing.ts';

const run = (name: string, inputs: tf.NamedTensorMap, attrs: object = {}): tf.Tensor =>
  tf.engine().runKernel(name, inputs, attrs as tf.NamedAttrMap) as tf.Tensor;

describe.each([
  ['float32', floats],
  ['int32', ints],
] as const)('of %s', (_dtype, make) => {
  it.each([[[3, 4, 5]], [[20, 30, 8]]])('gather from %j', (shape) =>
    expectSame(() =>
      [0, 1, 2].flatMap((axis) => [
        tf.gather(make(shape), ints([7], 0, 3), axis),
        tf.gather(make(shape), ints([4, 5], 0, 3, 2), axis),
        tf.gather(make(shape), tf.scalar(2, 'int32'), axis),
      ]),
    ),
  );

  it('gather with batch dimensions', () =>
    expectSame(() => [
      tf.gather(make([4, 6, 5]), ints([4, 3], 0, 6), 1, 1),
      tf.gather(make([4, 6, 50]), ints([4, 3], 0, 6), 1, 1),
      tf.gather(make([2, 3, 6, 5]), ints([2, 3, 4], 0, 6), 2, 2),
      tf.gather(make([2, 3, 6]), ints([2, 4], 0, 6), 2, 1),
    ]));

  it('gatherND and scatterND', () =>
    expectSame(() => [
      tf.gatherND(make([5, 6, 7]), ints([20, 2], 0, 5)),
      tf.gatherND(make([5, 6, 7]), ints([20, 3], 0, 5)),
      tf.gatherND(make([5, 6, 70]), ints([4, 5, 1], 0, 5)),
      tf.scatterND(ints([20, 1], 0, 8) as tf.Tensor2D, make([20, 30]), [8, 30]),
      tf.scatterND(ints([20, 2], 0, 5) as tf.Tensor2D, make([20]), [5, 6]),
    ]));

  it('zerosLike, onesLike and fill', () =>
    expectSame(() => [
      tf.zerosLike(make([30, 40])),
      tf.onesLike(make([30, 40])),
      tf.fill([30, 40], 3),
      tf.fill([2], 3, 'int32'),
    ]));
});

it.each([[[9]], [[9, 4]], [[9, 20, 30]]])('unsortedSegmentSum of %j', (shape) =>
  expectSame(() => {
    const ids = tf.tensor1d([0, 2, 2, -1, 5, 4, 0, 9, 2], 'int32');
    return tf.unsortedSegmentSum(floats(shape), ids, 6);
  }),
);

it('oneHot', () =>
  expectSame(() => [
    tf.oneHot(ints([30], -2, 12), 10),
    tf.oneHot(ints([3, 5], 0, 4), 4, 0.9, 0.1, 'float32'),
    tf.oneHot(ints([30], 0, 10), 10, 1, 0, 'float32'),
  ]));

it.each([8, 4000])('indices out of range are errors, as on cpu (%d elements)', (size) => {
  for (const backend of ['cpu', 'ort']) {
    tf.setBackend(backend);
    const x = floats([4, size / 4]);
    expect(() => tf.gather(x, tf.tensor1d([0, 4], 'int32'))).toThrow('GatherV2: the index value 4 is not in [0, 3]');
    expect(() => tf.gather(x, tf.tensor1d([-1], 'int32'))).toThrow('GatherV2: the index value -1 is not in [0, 3]');
    expect(() => tf.gatherND(x, tf.tensor2d([[4]], [1, 1], 'int32'))).toThrow(/Invalid indices: 4 does not index into/);
    expect(() =>
      run('ScatterNd', { indices: tf.tensor2d([[4]], [1, 1], 'int32'), updates: tf.ones([1]) }, { shape: [3] }),
    ).toThrow(/Invalid indices: 4 does not index into 3/);
  }
});
