import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, Rng, ShapeError, setBackend, type Tensor } from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { Conv2d, type Conv2dOptions } from './index.ts';
import { checkParameterGradients, expectClose, random } from './reference.testing.ts';

beforeAll(() => setBackend('cpu'));

const rng = new Rng(1);

/** The definition, one sum for each output. */
function reference(layer: Conv2d, x: Tensor): { shape: number[]; values: number[] } {
  const { inChannels, outChannels, groups, kernelSize, stride, padding, dilation } = layer;
  const [batch, , height, width] = x.shape as number[];
  const [kh, kw] = kernelSize;
  const [outHeight, outWidth] = [height, width].map(
    (size, axis) =>
      Math.floor((size + 2 * padding[axis] - dilation[axis] * (kernelSize[axis] - 1) - 1) / stride[axis]) + 1,
  );
  const [input, weight, bias] = [x, layer.weight.stored, layer.bias?.stored].map((t) => t?.dataSync());
  const perGroup = inChannels / groups;
  const at = (n: number, c: number, row: number, column: number): number =>
    row < 0 || column < 0 || row >= height || column >= width
      ? 0
      : input![((n * inChannels + c) * height + row) * width + column];
  const values: number[] = [];
  for (let n = 0; n < batch; n++) {
    for (let o = 0; o < outChannels; o++) {
      const group = Math.floor(o / (outChannels / groups));
      for (let row = 0; row < outHeight; row++) {
        for (let column = 0; column < outWidth; column++) {
          let total = bias?.[o] ?? 0;
          for (let c = 0; c < perGroup; c++) {
            for (let i = 0; i < kh; i++) {
              for (let j = 0; j < kw; j++) {
                const y = row * stride[0] + i * dilation[0] - padding[0];
                const z = column * stride[1] + j * dilation[1] - padding[1];
                total += weight![((o * perGroup + c) * kh + i) * kw + j] * at(n, group * perGroup + c, y, z);
              }
            }
          }
          values.push(total);
        }
      }
    }
  }
  return { shape: [batch, outChannels, outHeight, outWidth], values };
}

const cases: [string, Omit<Conv2dOptions, 'rng'>][] = [
  ['plain', {}],
  ['no bias', { bias: false }],
  ['stride', { stride: 2 }],
  ['a stride for each axis', { stride: [2, 1] }],
  ['padding for each axis', { padding: [1, 2] }],
  ['dilation', { dilation: 2, padding: 1 }],
  ['dilation and stride', { dilation: [2, 1], stride: [2, 3], padding: 2 }],
  ['groups', { groups: 2, padding: 1 }],
  ['depthwise', { groups: 4, padding: 1 }],
  ['depthwise, stride', { groups: 4, stride: 2 }],
  ['depthwise, a stride for each axis', { groups: 4, stride: [1, 2] }],
  ['depthwise, dilation', { groups: 4, dilation: 2, padding: 1 }],
  ['depthwise, dilation and stride', { groups: 4, dilation: 2, stride: 2, padding: 2 }],
];

describe.each(cases)('Conv2d with %s', (_, options) => {
  it('is the sum that defines it', () => {
    const layer = new Conv2d(4, 8, [3, 2], { ...options, rng });
    const x = random([2, 4, 7, 6]);
    const expected = reference(layer, x);
    const y = layer.apply(x);
    expect(y.shape).toEqual(expected.shape);
    expectClose(y, expected.values);
    expectNoLeak(() => layer.apply(x));
  });

  it('has the gradients of finite differences', () => {
    const layer = new Conv2d(4, 4, [3, 2], { ...options, rng });
    const x = random([1, 4, 5, 4]);
    gradCheck((x) => layer.apply(x), [x], { order: 1 });
    checkParameterGradients(layer, () => layer.apply(x));
  });
});

it('names what does not fit', () => {
  expect(() => new Conv2d(4, 6, 3, { groups: 4, rng })).toThrow(ConfigError);
  expect(() => new Conv2d(4, 4, 0, { rng })).toThrow('Conv2d: kernelSize is 0; it must be a whole number >= 1.');
  expect(() => new Conv2d(4, 4, 3, { padding: -1, rng })).toThrow(ConfigError);
  const layer = new Conv2d(4, 4, 3, { rng });
  expect(() => layer.apply(random([1, 3, 5, 5]))).toThrow(ShapeError);
  expect(() => layer.apply(random([4, 5, 5]))).toThrow(ShapeError);
  expect(() => layer.apply(random([1, 4, 5, 2]))).toThrow('The kernel reaches over 3 columns');
});
