import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { expectSame, floats } from '../compare.testing.ts';

type Pads = Parameters<typeof tf.conv2d>[3];

interface Case {
  x: [number, number, number, number];
  filter: [number, number];
  strides: [number, number];
  pad: Pads;
  dilations?: [number, number];
}

const CASES: Case[] = [
  { x: [2, 8, 9, 3], filter: [3, 3], strides: [1, 1], pad: 'same' },
  { x: [2, 8, 9, 3], filter: [3, 2], strides: [2, 2], pad: 'same' },
  { x: [2, 8, 9, 3], filter: [3, 3], strides: [2, 3], pad: 'valid' },
  { x: [2, 8, 9, 3], filter: [1, 1], strides: [1, 1], pad: 'valid' },
  { x: [2, 8, 9, 3], filter: [1, 1], strides: [2, 2], pad: 'valid' },
  { x: [2, 8, 9, 3], filter: [5, 5], strides: [1, 1], pad: 2 },
  { x: [1, 16, 16, 3], filter: [4, 4], strides: [4, 4], pad: 'valid' },
  {
    x: [2, 8, 9, 3],
    filter: [3, 3],
    strides: [2, 2],
    pad: [
      [0, 0],
      [1, 0],
      [2, 1],
      [0, 0],
    ],
  },
  { x: [2, 9, 10, 3], filter: [3, 3], strides: [1, 1], pad: 'same', dilations: [2, 2] },
  { x: [1, 1, 50, 8], filter: [1, 5], strides: [1, 1], pad: 'same' },
];

const run = (name: string, inputs: tf.NamedTensorMap, attrs: object): tf.Tensor =>
  tf.engine().runKernel(name, inputs, attrs as tf.NamedAttrMap) as tf.Tensor;

const ACTIVATIONS = ['linear', 'relu', 'relu6', 'elu', 'sigmoid', 'leakyrelu', 'prelu'] as const;

describe.each(CASES)('$x by $filter, strides $strides, pad $pad, dilations $dilations', (c) => {
  const { x, strides, pad, dilations } = c;
  const inputs = x[3];
  const attrs = { strides, pad, dataFormat: 'NHWC', dilations: dilations ?? [1, 1] };
  const full: [number, number, number, number] = [...c.filter, inputs, 5];
  const depth: [number, number, number, number] = [...c.filter, inputs, 2];
  const dyOf = (filter: typeof full, depthwise: boolean): tf.Tensor => {
    const info = tf.backend_util.computeConv2DInfo(
      x,
      filter,
      strides,
      attrs.dilations as [number, number],
      pad,
      undefined,
      depthwise,
    );
    return floats(info.outShape, -1, 1, 3);
  };

  it('conv2d', () => expectSame(() => run('Conv2D', { x: floats(x), filter: floats(full, -1, 1, 2) }, attrs)));
  it('depthwiseConv2d', () =>
    expectSame(() => run('DepthwiseConv2dNative', { x: floats(x), filter: floats(depth, -1, 1, 2) }, attrs)));
  // The cpu kernels of the gradients know no dilations.
  it.skipIf(dilations)('depthwise gradient by the input', () =>
    expectSame(() =>
      run(
        'DepthwiseConv2dNativeBackpropInput',
        { dy: dyOf(depth, true), filter: floats(depth, -1, 1, 2) },
        { ...attrs, inputShape: x },
      ),
    ),
  );
  it.skipIf(dilations)('depthwise gradient by the filter', () =>
    expectSame(() =>
      run(
        'DepthwiseConv2dNativeBackpropFilter',
        { x: floats(x), dy: dyOf(depth, true) },
        { ...attrs, filterShape: depth },
      ),
    ),
  );

  it.skipIf(dilations)('gradient by the input', () =>
    expectSame(() =>
      run(
        'Conv2DBackpropInput',
        { dy: dyOf(full, false), filter: floats(full, -1, 1, 2) },
        { ...attrs, inputShape: x },
      ),
    ),
  );
  it.skipIf(dilations)('gradient by the filter', () =>
    expectSame(() =>
      run('Conv2DBackpropFilter', { x: floats(x), dy: dyOf(full, false) }, { ...attrs, filterShape: full }),
    ),
  );

  it.each(ACTIVATIONS)('fused with bias and %s', (activation) =>
    expectSame(() => {
      const preluActivationWeights = activation === 'prelu' ? floats([5], 0, 1, 5) : undefined;
      const common = { strides, pad, dilations: attrs.dilations as [number, number], activation, leakyreluAlpha: 0.3 };
      return [
        tf.fused.conv2d({
          x: floats(x) as tf.Tensor4D,
          filter: floats(full, -1, 1, 2) as tf.Tensor4D,
          bias: floats([5], -1, 1, 4),
          preluActivationWeights,
          ...common,
        }),
        tf.fused.depthwiseConv2d({
          x: floats(x) as tf.Tensor4D,
          filter: floats(depth, -1, 1, 2) as tf.Tensor4D,
          bias: floats([2 * inputs], -1, 1, 4),
          ...common,
          pad: pad as 'same',
          activation: activation === 'prelu' ? 'linear' : activation,
        }),
      ];
    }),
  );
});

it('names the shapes of an impossible convolution', async () => {
  await tf.setBackend('ort');
  expect(() => tf.conv2d(tf.zeros<tf.Rank.R4>([1, 40, 40, 3]), tf.zeros<tf.Rank.R4>([3, 3, 4, 8]), 1, 'same')).toThrow(
    /depth of input \(3\).* 4/,
  );
});
