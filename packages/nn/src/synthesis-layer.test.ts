import '@tensorflow/tfjs-backend-cpu';
import {
  add,
  ConfigError,
  concat,
  div,
  mul,
  Rng,
  reshape,
  ShapeError,
  setBackend,
  slice,
  sqrt,
  square,
  sum,
  type Tensor,
  tensor,
  tidy,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { convolve2d, EqualizedLinear, modulatedConv2d, SynthesisLayer, ToRGBLayer } from './index.ts';
import { checkParameterGradients, expectClose, random } from './reference.testing.ts';

beforeAll(() => setBackend('cpu'));

const rng = new Rng(1);

describe('EqualizedLinear', () => {
  it('scales its weight by lrMultiplier / sqrt(in), its bias by lrMultiplier', () => {
    const layer = new EqualizedLinear(4, 2, { biasInit: 3, lrMultiplier: 0.5, rng });
    layer.weight.assign(tensor([1, 2, 3, 4, 0, 0, 0, 8], [2, 4]));
    const y = layer.apply(tensor([[1, 1, 1, 2]]));
    expect(layer.weightGain).toBe(0.25);
    expectClose(y, [14 / 4 + 3, 16 / 4 + 3]);
    expect(new EqualizedLinear(4, 2, { bias: false, rng }).bias).toBeUndefined();
  });

  it('starts from outputs of the variance of its inputs', () => {
    const layer = new EqualizedLinear(400, 300, { lrMultiplier: 0.01, rng });
    const variance = tidy(() => sum(square(layer.apply(random([4, 400])))).dataSync()[0] / 1200);
    expect(variance / 1e-4).toBeGreaterThan(0);
    expect(() => new EqualizedLinear(0, 2, { rng })).toThrow(ConfigError);
    expect(() => layer.apply(random([4, 3]))).toThrow(ShapeError);
  });
});

describe('modulatedConv2d', () => {
  it.each([true, false])('is a convolution with modulated kernels for each example (demodulate: %s)', (demodulate) => {
    const [x, weight, styles] = [random([3, 4, 5, 6]), random([2, 4, 3, 3]), random([3, 4])];
    const expected = tidy(() => {
      const examples = [0, 1, 2].map((i) => {
        const scaled = mul(weight, reshape(slice(styles, [i, 0], [1, 4]), [1, 4, 1, 1]));
        const norm = sqrt(add(sum(square(scaled), [1, 2, 3], true), 1e-8));
        const kernel = demodulate ? div(scaled, norm) : scaled;
        return convolve2d(slice(x, [i, 0, 0, 0], [1, 4, 5, 6]), kernel, { padding: 1 });
      });
      return concat(examples, 0);
    });
    expectClose(modulatedConv2d(x, weight, styles, { demodulate }), Array.from(expected.dataSync()));
  });
});

const layers: [string, () => SynthesisLayer, number[]][] = [
  ['plain', () => new SynthesisLayer(2, 3, 4, 4, { rng }), [2, 2, 4, 4]],
  ['upsampling', () => new SynthesisLayer(2, 3, 4, 6, { upsample: true, rng }), [2, 2, 3, 3]],
  ['of kernel 1', () => new SynthesisLayer(2, 3, 4, 4, { kernelSize: 1, upsample: true, rng }), [2, 2, 2, 2]],
];

describe('SynthesisLayer', () => {
  it.each(layers)('%s gives its resolution, with gradients of both orders', (_, create, shape) => {
    const layer = create();
    layer.noise_strength.assign(tensor(0.3));
    // Styles of about one: demodulation bends sharply where all are near zero.
    const [x, w] = [random(shape), mul(random([2, 4]), 0.3)];
    const y = layer.apply(x, w);
    expect(y.shape).toEqual([2, 3, layer.resolution, layer.resolution]);
    // On either side of the kink of leaky ReLU.
    for (const bias of [10, -10]) {
      layer.bias.assign(tensor(Array(3).fill(bias)));
      gradCheck((x, w) => layer.apply(x, w), [x, w]);
      checkParameterGradients(layer, () => layer.apply(x, w));
    }
    expectNoLeak(() => layer.apply(x, w).dispose());
  });

  it('upsamples a constant picture to one, away from the border', () => {
    const layer = new SynthesisLayer(1, 1, 1, 12, { upsample: true, kernelSize: 1, rng });
    layer.affine.weight.assign(tensor([[0]]));
    layer.weight.assign(tensor([[[[2]]]]));
    const y = layer.apply(tensor(Array(36).fill(5), [1, 1, 6, 6]), tensor([[1]]));
    // Demodulation undoes the weight; then leaky ReLU times sqrt 2.
    expectClose(slice(y, [0, 0, 3, 3], [1, 1, 6, 6]), Array(36).fill(5 * Math.SQRT2));
  });

  it('refuses other pictures', () => {
    const layer = new SynthesisLayer(2, 3, 4, 8, { upsample: true, rng });
    expect(() => layer.apply(random([1, 2, 8, 8]), random([1, 4]))).toThrow(
      /takes \[batch, 2, 4, 4\], not \[1,2,8,8\]/,
    );
    expect(() => layer.apply(random([1, 3, 4, 4]), random([1, 4]))).toThrow(ShapeError);
    expect(() => new SynthesisLayer(2, 0, 4, 8, { rng })).toThrow(/outChannels is 0/);
  });
});

describe('ToRGBLayer', () => {
  it('is a 1x1 convolution scaled by styles / sqrt(in), not demodulated', () => {
    const layer = new ToRGBLayer(4, 1, 2, { rng });
    layer.affine.weight.assign(tensor(Array(8).fill(0), [4, 2]));
    layer.affine.bias?.assign(tensor([1, 2, 3, 4]));
    layer.weight.assign(tensor([1, 1, 1, 1], [1, 4, 1, 1]));
    layer.bias.assign(tensor([0.5]));
    const y: Tensor = layer.apply(tensor([1, 1, 1, 1], [1, 4, 1, 1]), random([1, 2]));
    expectClose(y, [10 / 2 + 0.5]);
    checkParameterGradients(layer, () => layer.apply(random([2, 4, 2, 2]), random([2, 2])));
  });
});
