import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { ShapeError } from '../errors.ts';
import { Rng } from '../rng.ts';
import { orthogonal } from './orthogonal.ts';
import { expectOrthonormalColumns, take, useCpuWithoutLeaks } from './testing.ts';

useCpuWithoutLeaks();

describe('orthogonal', () => {
  it.each([[[5, 3]], [[3, 5]], [[4, 4]], [[1, 6]], [[6, 1]], [[4, 3, 2, 2]]])('is orthogonal: %j', (shape) => {
    const tensor = orthogonal(shape, { gain: 2, rng: new Rng(1) });
    expect(tensor.shape).toEqual(shape);
    const flat = Matrix.from1DArray(shape[0], tensor.size / shape[0], tensor.dataSync()).div(2);
    tensor.dispose();
    expectOrthonormalColumns(flat.rows < flat.columns ? flat.transpose() : flat);
  });

  it('is uniform: the trace averages to zero', () => {
    const rng = new Rng(2);
    const n = 400;
    let sum = 0;
    for (let i = 0; i < n; i++) sum += take(orthogonal([3, 3], { rng })).trace();
    // The trace of a uniform orthogonal matrix has variance one.
    expect(Math.abs(sum) / Math.sqrt(n)).toBeLessThan(3.5);
  });

  it('refuses shapes and gains by name', () => {
    const rng = new Rng(3);
    for (const shape of [[3], [], [0, 3], [2, 0.5]]) expect(() => orthogonal(shape, { rng })).toThrow(ShapeError);
    expect(() => orthogonal([2, 2], { rng, gain: Number.NaN })).toThrow(/gain is NaN/);
  });
});
