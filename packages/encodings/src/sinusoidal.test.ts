import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, memory, ShapeError, setBackend, tensor, tensor1d } from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { Sinusoidal, sinusoidalTable } from './sinusoidal.ts';

beforeAll(() => setBackend('cpu'));

/** Row for one position by the definition. */
function row(position: number, dim: number, base: number): { sines: number[]; cosines: number[] } {
  const angles = Array.from({ length: dim / 2 }, (_, i) => position * base ** ((-2 * i) / dim));
  return { sines: angles.map(Math.sin), cosines: angles.map(Math.cos) };
}

describe('Sinusoidal', () => {
  it.each([2, 6, 16])('has sines and cosines in either layout, dim %i', (dim) => {
    const positions = [0, 1, 7, 0.5, -3.25, 7, 500];
    for (const base of [100, 10000]) {
      const rows = positions.map((position) => row(position, dim, base));
      const halves = new Sinusoidal({ dim, base }).embed(tensor1d(positions));
      const expected = rows.flatMap(({ sines, cosines }) => [...sines, ...cosines]);
      expect(halves.shape).toEqual([positions.length, dim]);
      for (const [i, value] of halves.dataSync().entries()) expect(value).toBeCloseTo(expected[i], 4);
      const interleaved = new Sinusoidal({ dim, base, layout: 'interleaved' }).embed(tensor1d(positions));
      const pairs = rows.flatMap(({ sines, cosines }) => sines.flatMap((sine, i) => [sine, cosines[i]]));
      for (const [i, value] of interleaved.dataSync().entries()) expect(value).toBeCloseTo(pairs[i], 4);
    }
  });

  it('takes int32 positions, and shifts rather than counts', () => {
    const encoding = new Sinusoidal({ dim: 4 });
    const whole = encoding.embed(tensor1d([0, 1, 2, 3], 'int32')).arraySync() as number[][];
    const later = encoding.embed(tensor1d([2, 3], 'int32')).arraySync();
    expect(later).toEqual(whole.slice(2));
  });

  it('is differentiable in the positions, twice, and leaks nothing', () => {
    gradCheck((positions) => sinusoidalTable(positions, 6), [tensor1d([0.3, -1.2, 4])]);
    gradCheck((positions) => sinusoidalTable(positions, 4, { layout: 'interleaved' }), [tensor1d([0.3, 2])]);
    const positions = tensor1d([0, 1, 2]);
    const encoding = new Sinusoidal({ dim: 8 });
    expectNoLeak(() => encoding.embed(positions));
    const before = memory().numTensors;
    encoding.embed(positions).dispose();
    expect(memory().numTensors).toBe(before);
  });

  it('refuses bad options and positions', () => {
    expect(() => new Sinusoidal({ dim: 5 })).toThrow(ShapeError);
    expect(() => new Sinusoidal({ dim: 5 })).toThrow(/multiple of 2/);
    expect(() => new Sinusoidal({ dim: 0 })).toThrow(/dim is 0/);
    expect(() => new Sinusoidal({ dim: 4, base: 1 })).toThrow(ConfigError);
    expect(() => new Sinusoidal({ dim: 4, layout: 'mixed' as 'halves' })).toThrow(/"halves", "interleaved"/);
    expect(() => new Sinusoidal({ dim: 4 }).embed(tensor([1, 2, 3, 4], [2, 2]))).toThrow(/\[seq\], not \[2,2\]/);
  });
});
