import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, memory, ShapeError, setBackend, tensor, tidy } from '@ashlar/tensor';
import { beforeAll, expect, it } from 'vitest';
import { KeyValueCache, tokenPositions } from './index.ts';
import { expectClose, random, rowsOf } from './reference.testing.ts';

beforeAll(() => setBackend('cpu'));

const keys = (seq: number, seed: string) => random([1, 2, seq, 3], seed);
const values = (seq: number, seed: string) => random([1, 2, seq, 4], seed);

it('gives back all tokens of a layer in order', () => {
  const cache = new KeyValueCache();
  expect(cache.length).toBe(0);
  const [a, b] = [keys(2, 'a'), keys(1, 'b')];
  cache.append(0, a, values(2, 'a'), tokenPositions(2));
  const all = cache.append(0, b, values(1, 'b'), tokenPositions(1, 2));
  const [rowsA, rowsB] = [rowsOf(a), rowsOf(b)];
  expect(all.values.shape).toEqual([1, 2, 3, 4]);
  expectClose(all.keys, [rowsA[0], rowsA[1], rowsB[0], rowsA[2], rowsA[3], rowsB[1]]);
  expectClose(all.positions, [0, 1, 2]);
  expect(all.positions.dtype).toBe('int32');
});

it('counts what every layer has, and what each has', () => {
  const cache = new KeyValueCache();
  cache.append(0, keys(2, 'a'), values(2, 'a'), tokenPositions(2));
  cache.append(1, keys(2, 'a'), values(2, 'a'), tokenPositions(2));
  cache.append(0, keys(3, 'a'), values(3, 'a'), tokenPositions(3, 2));
  expect([cache.length, cache.lengthOf(0), cache.lengthOf(1), cache.lengthOf(2)]).toEqual([2, 5, 2, 0]);
  // After a pass that stopped midway, the layers are level again.
  cache.truncate(cache.length);
  expect([cache.lengthOf(0), cache.lengthOf(1)]).toEqual([2, 2]);
});

it('truncates, keeping the first tokens', () => {
  const cache = new KeyValueCache();
  const all = cache.append(0, keys(4, 'a'), values(4, 'a'), tensor([0, 0.5, 1, 1.5]));
  const [first, second, , , fifth, sixth] = [...rowsOf(all.keys).slice(0, 4), ...rowsOf(all.keys).slice(4)];
  cache.truncate(1);
  const { keys: left, positions } = cache.append(0, keys(1, 'b'), values(1, 'b'), tensor([9]));
  const [added, addedToo] = rowsOf(keys(1, 'b'));
  expectClose(left, [first, added, fifth, addedToo]);
  expect([second, sixth]).not.toContainEqual(rowsOf(left)[1]);
  expectClose(positions, [0, 9]);
  for (const length of [-1, 3, 0.5]) expect(() => cache.truncate(length)).toThrow(ConfigError);
  cache.truncate(0);
  expect(cache.length).toBe(0);
});

it('owns its tensors: they outlive tidy and go with reset', () => {
  const before = memory().numTensors;
  const cache = new KeyValueCache();
  for (const start of [0, 2]) {
    tidy(() => {
      for (const layer of [0, 1]) cache.append(layer, keys(2, 'a'), values(2, 'a'), tokenPositions(2, start));
    });
    expect(memory().numTensors).toBe(before + 6);
  }
  cache.truncate(3);
  expect(memory().numTensors).toBe(before + 6);
  cache.reset();
  expect(memory().numTensors).toBe(before);
  // Another sequence, of another batch size, may follow.
  tidy(() => {
    cache.append(0, random([5, 2, 1, 3]), random([5, 2, 1, 3]), tokenPositions(1));
  });
  cache.dispose();
  expect(memory().numTensors).toBe(before);
});

it('refuses what does not fit', () => {
  const cache = new KeyValueCache();
  const append =
    (layer: number, k: number[], v: number[], positions = tokenPositions(k[2])) =>
    () =>
      cache.append(layer, random(k), random(v), positions);
  expect(append(1, [1, 2, 2, 3], [1, 2, 2, 3])).toThrow('The cache has 0 layers; the next one is not 1.');
  expect(append(0, [1, 2, 2, 3], [1, 2, 3, 3])).toThrow(ShapeError);
  expect(append(0, [1, 2, 2, 3], [1, 2, 2, 3], tokenPositions(3))).toThrow(ShapeError);
  append(0, [1, 2, 2, 3], [1, 2, 2, 3])();
  expect(append(0, [2, 2, 1, 3], [2, 2, 1, 3])).toThrow('Reset it first.');
  expect(append(0, [1, 2, 1, 4], [1, 2, 1, 3])).toThrow(ShapeError);
  expect(append(0, [1, 2, 1, 3], [1, 2, 1, 3], tensor([2]))).toThrow('float32 positions [seq]');
  expect(append(0, [1, 2, 1, 3], [1, 2, 1, 3], tensor([[2, 1]], [1, 2], 'int32'))).toThrow('[seq, 2]');
  expect(cache.length).toBe(2);
});
