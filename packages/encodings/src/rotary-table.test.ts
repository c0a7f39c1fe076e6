import { describe, expect, it } from 'vitest';
import { RotaryTable } from './rotary-table.ts';

describe('RotaryTable', () => {
  it('gives the same rows whether it keeps them or not', () => {
    const frequencies = Float32Array.of(1, 0.1, 0.01);
    const positions = [5, 0, 5, 300, -2, 1.5, 17];
    const expected = new RotaryTable(frequencies, 2, 0).rows(positions);
    for (const limit of [1, 6, 18, 1000]) {
      const table = new RotaryTable(frequencies, 2, limit);
      table.rows([3]);
      expect(table.rows(positions)).toEqual(expected);
      expect(table.rows(positions)).toEqual(expected);
    }
    expect(expected.cos[1]).toBeCloseTo(2 * Math.cos(0.5), 6);
    expect(expected.sin[3]).toBe(0);
  });

  it('is bounded, and hands out copies', () => {
    const table = new RotaryTable(Float32Array.of(1), 1, 4);
    // A table for this position would be 8 GB.
    expect(table.rows([2 ** 31]).cos[0]).toBeCloseTo(Math.cos(2 ** 31), 5);
    table.rows([1]).cos.fill(7);
    expect(table.rows([1]).cos[0]).toBeCloseTo(Math.cos(1), 6);
  });
});
