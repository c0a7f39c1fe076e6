import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, mul, Rng, ShapeError, setBackend, tensor } from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { LayerNorm, RMSNorm } from './index.ts';
import { checkParameterGradients, expectClose, random, rowsOf } from './reference.testing.ts';

beforeAll(() => setBackend('cpu'));

const scale = [0.5, -1, 2, 1.5];
const shift = [0.1, 0.2, -0.3, 0];
const square = (row: number[]): number => row.reduce((total, value) => total + value ** 2, 0) / row.length;

describe.each([
  {
    name: 'LayerNorm',
    eps: 1e-5,
    make: () => new LayerNorm(4),
    reference: (row: number[], eps: number) => {
      const mean = row.reduce((a, b) => a + b) / row.length;
      const centered = row.map((value) => value - mean);
      return centered.map((value, i) => (value / Math.sqrt(square(centered) + eps)) * scale[i] + shift[i]);
    },
  },
  {
    name: 'RMSNorm',
    eps: 1e-6,
    make: () => new RMSNorm(4),
    reference: (row: number[], eps: number) => row.map((value, i) => (value / Math.sqrt(square(row) + eps)) * scale[i]),
  },
])('$name', ({ name, eps, make, reference }) => {
  const trained = (): LayerNorm | RMSNorm => {
    const layer = make();
    layer.weight!.assign(tensor(scale));
    if (layer instanceof LayerNorm) layer.bias!.assign(tensor(shift));
    return layer;
  };

  it.each([1, 1e3, 1e-3])('normalises the last axis, at scale %d', (size) => {
    const x = mul(random([2, 3, 4]), size);
    const y = trained().apply(x);
    expect(y.shape).toEqual([2, 3, 4]);
    expectClose(
      y,
      rowsOf(x).map((row) => reference(row, eps)),
    );
  });

  it('has the first and second gradients of finite differences', () => {
    const layer = trained();
    const x = random([3, 4], 5);
    gradCheck((x) => layer.apply(x), [x]);
    checkParameterGradients(layer, () => layer.apply(x));
  });

  it('names what does not fit and leaves nothing behind', () => {
    const layer = make();
    const x = random([2, 4]);
    expect(() => layer.apply(random([2, 3]))).toThrow(ShapeError);
    expect(() => new (name === 'LayerNorm' ? LayerNorm : RMSNorm)(4, { eps: -1 })).toThrow(ConfigError);
    expect(() => new (name === 'LayerNorm' ? LayerNorm : RMSNorm)(0)).toThrow(ConfigError);
    expectNoLeak(() => layer.apply(x));
  });
});

it('LayerNorm goes without bias, or without parameters', () => {
  const names = (layer: LayerNorm): string[] => [...layer.namedParameters()].map(([name]) => name);
  expect(names(new LayerNorm(4))).toEqual(['weight', 'bias']);
  expect(names(new LayerNorm(4, { bias: false }))).toEqual(['weight']);
  const plain = new LayerNorm(4, { elementwiseAffine: false });
  expect(names(plain)).toEqual([]);
  const [row] = rowsOf(plain.apply(random([1, 4], new Rng(2).integer(0, 9))));
  expect(square(row)).toBeCloseTo(1, 3);
});
