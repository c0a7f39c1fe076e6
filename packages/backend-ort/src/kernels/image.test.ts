import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { expectSame, floats, ints } from '../compare.testing.ts';

const run = (name: string, inputs: tf.NamedTensorMap, attrs: object): tf.Tensor =>
  tf.engine().runKernel(name, inputs, attrs as tf.NamedAttrMap) as tf.Tensor;

const POOLS = [
  { filterSize: [2, 2], strides: [2, 2], pad: 'valid' },
  { filterSize: [2, 2], strides: [2, 2], pad: 'same' },
  { filterSize: [3, 3], strides: [1, 1], pad: 'same' },
  { filterSize: [3, 2], strides: [2, 1], pad: 'same' },
  { filterSize: [3, 3], strides: [2, 2], pad: 1 },
  { filterSize: [1, 1], strides: [1, 1], pad: 'valid' },
  { filterSize: [3, 3], strides: [2, 2], pad: 0, dimRoundingMode: 'ceil' },
] as const;

describe.each(POOLS)('pools of $filterSize, strides $strides, pad $pad', (attrs) => {
  it.each([[[1, 5, 6, 2]], [[2, 16, 17, 5]]])('%j', (shape) =>
    expectSame(() => {
      const x = floats(shape);
      const output = run('MaxPool', { x }, attrs);
      const average = run('AvgPool', { x }, attrs);
      const dy = floats(output.shape, -1, 1, 2);
      return [
        output,
        average,
        run('MaxPoolGrad', { dy, input: x, output }, attrs),
        run('AvgPoolGrad', { dy, input: x }, attrs),
      ];
    }),
  );

  it('of equal values', () =>
    expectSame(() => {
      const x = tf.cast(ints([2, 16, 17, 5], 0, 2), 'float32');
      const output = run('MaxPool', { x }, attrs);
      return run('MaxPoolGrad', { dy: floats(output.shape), input: x, output }, attrs);
    }));
});

describe('batchNorm', () => {
  it.each([[[4, 3]], [[2, 16, 17, 5]]])('of %j', (shape) =>
    expectSame(() => {
      const channels = [shape[shape.length - 1]!];
      const [x, mean, variance] = [floats(shape), floats(channels), floats(channels, 0.1, 2, 2)];
      return [
        run(
          'FusedBatchNorm',
          { x, mean, variance, scale: floats(channels), offset: floats(channels) },
          { varianceEpsilon: 1e-3 },
        ),
        run('FusedBatchNorm', { x, mean, variance }, { varianceEpsilon: 1e-3 }),
        run('FusedBatchNorm', { x, mean, variance, offset: floats(channels) }, { varianceEpsilon: 1e-3 }),
      ];
    }),
  );
});

describe('resize', () => {
  const size = fc.integer({ min: 1, max: 20 });
  it('to any size', () =>
    fc.assert(
      fc.asyncProperty(
        size,
        size,
        size,
        size,
        fc.constantFrom([true, false], [false, true], [false, false]),
        async (h, w, h2, w2, [align, half]) => {
          await expectSame(
            () => {
              const x = floats([2, h, w, 3]) as tf.Tensor4D;
              return [
                tf.image.resizeBilinear(x, [h2, w2], align, half),
                tf.image.resizeNearestNeighbor(x, [h2, w2], align, half),
              ];
            },
            { relative: 1e-4 },
          );
        },
      ),
      { numRuns: 80 },
    ));
});
