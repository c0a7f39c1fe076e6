import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, Rng, ShapeError, setBackend, tensor } from '@ashlar/tensor';
import { expectNoLeak } from '@ashlar/tensor/testing';
import { beforeAll, expect, it } from 'vitest';
import { Embedding } from './index.ts';
import { checkParameterGradients, expectClose, rowsOf } from './reference.testing.ts';

beforeAll(() => setBackend('cpu'));

const rng = new Rng(1);

it('gives the rows of its ids, repeated ones too', () => {
  const layer = new Embedding(6, 3, { rng });
  const ids = tensor([5, 0, 5, 2], [2, 2], 'int32');
  const rows = rowsOf(layer.weight.stored);
  const y = layer.apply(ids);
  expect(y.shape).toEqual([2, 2, 3]);
  expectClose(
    y,
    [5, 0, 5, 2].map((id) => rows[id]),
  );
  checkParameterGradients(layer, () => layer.apply(ids));
  expectNoLeak(() => layer.apply(ids));
});

it('starts with the normal distribution', () => {
  const values = new Embedding(200, 50, { rng }).weight.stored.dataSync<'float32'>();
  expect(values.reduce((total, value) => total + value ** 2, 0) / values.length).toBeCloseTo(1, 1);
});

it('names what does not fit', () => {
  expect(() => new Embedding(0, 3, { rng })).toThrow(ConfigError);
  expect(() => new Embedding(4, 3, { rng }).apply(tensor([1, 2]))).toThrow(ShapeError);
});
