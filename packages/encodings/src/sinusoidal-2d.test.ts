import '@tensorflow/tfjs-backend-cpu';
import { ShapeError, setBackend, type Tensor, tensor1d, tensor2d } from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { Sinusoidal2d } from './sinusoidal-2d.ts';

beforeAll(() => setBackend('cpu'));

/** Row and column of each patch of a grid, row by row. */
function grid(height: number, width: number): Tensor {
  const places = Array.from({ length: height * width }, (_, i) => [Math.floor(i / width), i % width]);
  return tensor2d(places, [height * width, 2], 'int32');
}

describe('Sinusoidal2d', () => {
  it('has the tables of masked autoencoders', () => {
    // get_2d_sincos_pos_embed(embed_dim=8, grid_size=3) of the MAE code; patch 5 is row 1, column 2.
    const table = new Sinusoidal2d({ dim: 8 }).embed(grid(3, 3)).arraySync() as number[][];
    const [column, row] = [2, 1].map((p) => [Math.sin(p), Math.sin(p / 100), Math.cos(p), Math.cos(p / 100)]);
    for (const [i, value] of [...column, ...row].entries()) expect(table[5][i]).toBeCloseTo(value, 6);
  });

  it('can have the row first, and interleave', () => {
    const [row, column] = [2, 1];
    const encoding = new Sinusoidal2d({ dim: 4, first: 'row', layout: 'interleaved' });
    const values = encoding.embed(tensor2d([[row, column]])).dataSync();
    const expected = [row, column].flatMap((p) => [Math.sin(p), Math.cos(p)]);
    for (const [i, value] of expected.entries()) expect(values[i]).toBeCloseTo(value, 6);
  });

  it('is differentiable in fractional positions and leaks nothing', () => {
    const encoding = new Sinusoidal2d({ dim: 8 });
    gradCheck(
      (positions) => encoding.embed(positions),
      [
        tensor2d([
          [0.5, 1.5],
          [2.25, 0],
        ]),
      ],
    );
    const positions = grid(2, 3);
    expectNoLeak(() => encoding.embed(positions));
  });

  it('refuses widths and positions that do not fit', () => {
    expect(() => new Sinusoidal2d({ dim: 6 })).toThrow(/multiple of 4/);
    expect(() => new Sinusoidal2d({ dim: 8, first: 'x' as 'row' })).toThrow(/"column", "row"/);
    expect(() => new Sinusoidal2d({ dim: 8 }).embed(tensor1d([1, 2]))).toThrow(ShapeError);
  });
});
