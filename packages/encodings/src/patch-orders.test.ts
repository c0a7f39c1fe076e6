import { ConfigError } from '@ashlar/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gilbertOrder, gilbertPath, hilbertOrder, rasterOrder, zigzagOrder } from './index.ts';

describe('orders of patches', () => {
  it('visit every cell of any grid once', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 24 }), fc.integer({ min: 1, max: 24 }), (height, width) => {
        for (const order of [gilbertOrder, rasterOrder, zigzagOrder]) {
          expect(Array.from(order(height, width)).sort((a, b) => a - b)).toEqual([...Array(height * width).keys()]);
        }
      }),
    );
  });

  it('go from neighbour to neighbour along the Gilbert curve, but for one diagonal step', () => {
    for (let height = 1; height <= 16; height++) {
      for (let width = 1; width <= 16; width++) {
        const path = gilbertPath(height, width);
        const steps = path
          .slice(1)
          .map(([row, column], i) => [Math.abs(row - path[i][0]), Math.abs(column - path[i][1])]);
        const diagonal = steps.filter(([down, right]) => down === 1 && right === 1);
        const [long, short] = [Math.max(height, width), Math.min(height, width)];
        expect(diagonal).toHaveLength(long % 2 === 1 && short % 2 === 0 && short >= 4 ? 1 : 0);
        expect(steps.filter(([down, right]) => down + right !== 1)).toHaveLength(diagonal.length);
      }
    }
  });

  it('follow Hilbert and JPEG', () => {
    for (const side of [1, 2, 4, 8, 16]) {
      const order = hilbertOrder(side, side);
      const at = new Map(Array.from(order, (visit, cell) => [visit, cell]));
      for (let i = 1; i < side * side; i++) {
        const [a, b] = [at.get(i - 1) as number, at.get(i) as number];
        expect(Math.abs((a % side) - (b % side)) + Math.abs(Math.floor(a / side) - Math.floor(b / side))).toBe(1);
      }
    }
    expect(Array.from(hilbertOrder(2, 2))).toEqual([0, 3, 1, 2]);
    expect(Array.from(zigzagOrder(3, 3))).toEqual([0, 1, 5, 2, 4, 6, 3, 7, 8]);
    expect(() => hilbertOrder(6, 6)).toThrow(/use gilbertOrder/);
    expect(() => gilbertOrder(0, 3)).toThrow(ConfigError);
  });
});
