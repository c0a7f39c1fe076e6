import '@tensorflow/tfjs-backend-cpu';
import { ShapeError, setBackend, tensor3d, zeros } from '@ashlar/tensor';
import { expectNoLeak } from '@ashlar/tensor/testing';
import { beforeAll, expect, it } from 'vitest';
import { maskedSinusoidal2d } from './masked-sinusoidal-2d.ts';

beforeAll(() => setBackend('cpu'));

it('an image in a larger, padded one has the encoding of its own', () => {
  const alone = maskedSinusoidal2d(zeros([1, 2, 2]), 8).arraySync() as number[][][][];
  const mask = tensor3d([0, 0, 1, 0, 0, 1, 1, 1, 1], [1, 3, 3]);
  const padded = maskedSinusoidal2d(mask, 8).arraySync() as number[][][][];
  for (const [y, x] of [
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
  ]) {
    for (const [i, value] of padded[0][y][x].entries()) expect(value).toBeCloseTo(alone[0][y][x][i], 4);
  }
  expectNoLeak(() => maskedSinusoidal2d(mask, 8));
});

it('puts the column into the first half', () => {
  const table = maskedSinusoidal2d(zeros([1, 2, 4]), 4).arraySync() as number[][][][];
  // The first of four columns is at pi / 2, the first of two rows at pi.
  for (const [i, value] of [1, 0, 0, -1].entries()) expect(table[0][0][0][i]).toBeCloseTo(value, 4);
  expect(() => maskedSinusoidal2d(zeros([2, 2]), 4)).toThrow(ShapeError);
  expect(() => maskedSinusoidal2d(zeros([1, 2, 2]), 6)).toThrow(/dim is 6; it must be a multiple of 4/);
});
