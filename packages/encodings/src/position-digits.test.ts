import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, Rng, ShapeError, setBackend, type Tensor, tensor1d, tensor2d } from '@ashlar/tensor';
import { expectNoLeak } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { digitAttentionMask, type PositionDigitsOptions, positionDigits, positionGrid } from './position-digits.ts';

beforeAll(() => setBackend('cpu'));

const digitsOf = (positions: Tensor, options: PositionDigitsOptions): unknown[] => {
  const { digits, mask } = positionDigits(positions, options);
  return [digits.arraySync(), mask.arraySync()];
};

describe('positionDigits', () => {
  it('pads on either side, and gives 0 one digit', () => {
    const positions = tensor1d([0, 10, 205], 'int32');
    expect(digitsOf(positions, { maxDigits: 3 })).toEqual([
      [
        [0, 0, 0],
        [0, 1, 0],
        [2, 0, 5],
      ],
      [
        [0, 0, 1],
        [0, 1, 1],
        [1, 1, 1],
      ],
    ]);
    expect(digitsOf(positions, { maxDigits: 3, leftPad: false, padValue: 9 })).toEqual([
      [
        [0, 9, 9],
        [1, 0, 9],
        [2, 0, 5],
      ],
      [
        [1, 0, 0],
        [1, 1, 0],
        [1, 1, 1],
      ],
    ]);
  });

  it('agrees with toString, in any base and up to the largest numbers', () => {
    for (const [base, maxDigits] of [
      [10, 10],
      [2, 31],
      [16, 8],
      [36, 6],
    ]) {
      const drawn = new Rng(base).integers([50], 0, 2 ** 31 - 1);
      const most = Math.min(base ** maxDigits, 2 ** 31) - 1;
      const values = [...drawn.dataSync(), most, base - 1, base, base ** 2 - 1].filter((value) => value <= most);
      const expected = values.map((value) =>
        [...value.toString(base).padStart(maxDigits, '0')].map((digit) => Number.parseInt(digit, base)),
      );
      const [digits, mask] = digitsOf(tensor1d(values, 'int32'), { maxDigits, base }) as number[][][];
      expect(digits).toEqual(expected);
      expect(mask.map((row) => row.reduce((a, b) => a + b))).toEqual(values.map((v) => v.toString(base).length));
    }
  });

  it('writes the coordinates one after the other', () => {
    const [digits] = digitsOf(tensor2d([[1, 23, 4]], [1, 3], 'int32'), { maxDigits: 2 });
    expect(digits).toEqual([[0, 1, 2, 3, 0, 4]]);
    const positions = tensor1d([1, 2]);
    expectNoLeak(() => positionDigits(positions, { maxDigits: 2 }));
  });

  it('refuses coordinates that are no such strings, and digits beyond int32', () => {
    const of = (values: number[], options: PositionDigitsOptions) => () => positionDigits(tensor1d(values), options);
    expect(of([-1], { maxDigits: 2 })).toThrow(/positions from 0, not -1 \(index 0\)/);
    expect(of([5, 100], { maxDigits: 2 })).toThrow(/coordinate 100 .index 1/);
    expect(of([0.5], { maxDigits: 2 })).toThrow(/whole positions/);
    expect(of([Number.NaN], { maxDigits: 2 })).toThrow(ConfigError);
    expect(of([1], { maxDigits: 2, axes: 2 })).toThrow(ShapeError);
    expect(() => positionDigits(tensor2d([[1, 2, 3]]), { maxDigits: 2, axes: 2 })).toThrow(/\[seq, 2\]/);
    expect(of([1], { maxDigits: 0 })).toThrow(/maxDigits/);
    expect(of([1], { maxDigits: 11 })).toThrow(/maxDigits is 11/);
    expect(of([1], { maxDigits: 2, base: 1 })).toThrow(/base is 1/);
    expect(of([1], { maxDigits: 2, base: 37 })).toThrow(/base is 37/);
  });
});

it('digitAttentionMask hides what comes later and the padding', () => {
  const { mask } = positionDigits(tensor1d([7], 'int32'), { maxDigits: 2 });
  const of = (options: Parameters<typeof digitAttentionMask>[1]) => digitAttentionMask(mask, options).arraySync();
  expect(of({})).toEqual([
    [
      [1, 0, 0],
      [1, 1, 0],
      [1, 1, 1],
    ],
  ]);
  expect(of({ maskPadding: true, summaryToken: false })).toEqual([
    [
      [0, 0],
      [0, 1],
    ],
  ]);
  expect(of({ maskPadding: true, direction: 'bidirectional' })).toEqual([Array(3).fill([0, 1, 1])]);
  expectNoLeak(() => digitAttentionMask(mask, { maskPadding: true }));
});

it('positionGrid lists the positions of a box', () => {
  expect(positionGrid([2, 2], [10, 20])).toEqual([
    [10, 20],
    [10, 21],
    [11, 20],
    [11, 21],
  ]);
  expect(positionGrid([3])).toEqual([[0], [1], [2]]);
});
