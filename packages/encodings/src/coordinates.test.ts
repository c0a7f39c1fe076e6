import '@tensorflow/tfjs-backend-cpu';
import {
  ConfigError,
  grad,
  Rng,
  ShapeError,
  setBackend,
  sum,
  type Tensor,
  tensor,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  distinctCells,
  FourierFeatures,
  harmonicEmbedding,
  pixelCoordinates,
  quantizeCoordinates,
  readBasisField,
  readTriplane,
} from './index.ts';

beforeAll(() => setBackend('cpu'));

const points = (count: number, axes: number): Tensor => new Rng(1).uniform([count, axes], { low: -0.9, high: 0.9 });

describe('harmonicEmbedding and FourierFeatures', () => {
  const features = (seed = 0): FourierFeatures => new FourierFeatures({ axes: 3, features: 5, rng: new Rng(seed) });

  it('have right gradients and leak nothing', () => {
    const own = features();
    own.B.stored;
    gradCheck((x) => harmonicEmbedding(x, 2), [points(2, 3)]);
    gradCheck((x) => own.forward(x), [points(2, 3)]);
    const x = points(4, 3);
    expectNoLeak(() => harmonicEmbedding(x, 3));
    expectNoLeak(() => own.apply(x));
  });

  it('keep leading axes, and only what was drawn decides', () => {
    const x = tensor(points(12, 3).dataSync(), [2, 6, 3]);
    expect(harmonicEmbedding(x, 4).shape).toEqual([2, 6, 27]);
    expect(features().apply(x).shape).toEqual([2, 6, 10]);
    expect(features().apply(x).dataSync()).toEqual(features().apply(x).dataSync());
    expect(features().apply(x).dataSync()).not.toEqual(features(1).apply(x).dataSync());
    // cos² + sin² of each frequency.
    const row = (features().apply(x).arraySync() as number[][][])[0][0];
    for (let i = 0; i < 5; i++) expect(row[i] ** 2 + row[i + 5] ** 2).toBeCloseTo(1, 5);
  });

  it('refuse what does not fit', () => {
    expect(() => harmonicEmbedding(points(2, 3), 1.5)).toThrow(ConfigError);
    expect(() => harmonicEmbedding(tensor(1), 2)).toThrow(ShapeError);
    expect(() => features().apply(points(2, 2))).toThrow(/\[\.\.\., 3\], not \[2,2\]/);
    expect(() => new FourierFeatures({ axes: 2, features: 4, std: 0, rng: new Rng(0) })).toThrow(/std is 0/);
  });
});

describe('quantizeCoordinates', () => {
  const grid = { min: [-1, 0], max: [1, 4], resolution: [9, 5] };

  it('moves points to the centres of their cells, by axis, and is a constant to differentiation', () => {
    const { quantized, cell } = quantizeCoordinates(
      tensor2d([
        [0.1, 3.2],
        [0.2, 3.9],
      ]),
      grid,
    );
    expect(Array.from(cell.dataSync())).toEqual([4, 3, 4, 3]);
    expect(Array.from(quantized.dataSync())).toEqual([0.125, 3.5, 0.125, 3.5]);
    expect(cell.dtype).toBe('int32');
    const x = points(3, 2);
    expect(() => grad((x) => sum(quantizeCoordinates(x, grid).quantized))(x)).toThrow();
    expectNoLeak(() => Object.values(quantizeCoordinates(x, grid)));
  });

  it('counts the cells that points lie in', async () => {
    const many = new Rng(2).uniform([500, 2], { low: 0, high: 1 });
    const coarse = { min: 0, max: 1, resolution: 5 };
    expect(await distinctCells(many, coarse)).toBe(16);
    expect(await distinctCells(many, { ...coarse, resolution: 25600 })).toBe(500);
  });

  it('refuses boxes and grids that are none', () => {
    const x = points(2, 2);
    expect(() => quantizeCoordinates(x, { ...grid, max: [1, 0] })).toThrow(/max is 0; it must be above min, 0/);
    expect(() => quantizeCoordinates(x, { ...grid, resolution: 1 })).toThrow(/resolution is 1/);
    expect(() => quantizeCoordinates(x, { ...grid, min: [0] })).toThrow(
      /min is \[0\]; give a finite number, or one for each of 2/,
    );
    expect(() => quantizeCoordinates(x, { ...grid, min: Number.NaN })).toThrow(ConfigError);
    expect(() => quantizeCoordinates(tensor(1), grid)).toThrow(ShapeError);
  });
});

describe('basis fields', () => {
  const field = (): Tensor => new Rng(3).normal([2, 3, 4, 5]);

  it('give the cells themselves at pixel centres, and the border outside', () => {
    const x = field();
    const read = readBasisField(x, pixelCoordinates(4, 5)).arraySync() as number[][][];
    const cells = x.arraySync() as number[][][][];
    for (let i = 0; i < 20; i++) {
      for (let c = 0; c < 3; c++) expect(read[1][i][c]).toBeCloseTo(cells[1][c][Math.floor(i / 5)][i % 5], 5);
    }
    const outside = readBasisField(
      x,
      tensor2d([
        [-3, -3],
        [9, 9],
      ]),
    ).arraySync() as number[][][];
    expect(outside[0][0][0]).toBeCloseTo(cells[0][0][0][0], 6);
    expect(outside[0][1][2]).toBeCloseTo(cells[0][2][3][4], 6);
    const corners = readBasisField(
      x,
      tensor2d([
        [-1, -1],
        [1, 1],
      ]),
      { alignCorners: true },
    ).arraySync() as number[][][];
    expect(corners[0][1][2]).toBeCloseTo(cells[0][2][3][4], 6);
  });

  it('have right gradients of both orders in field and coordinates, and leak nothing', () => {
    const at = tensor2d([
      [-0.63, 0.21],
      [0.37, -0.48],
      [0.12, 0.83],
    ]);
    gradCheck((x, at) => readBasisField(x, at), [new Rng(4).normal([1, 2, 3, 3]), at]);
    const x = field();
    expectNoLeak(() => readBasisField(x, at));
    expectNoLeak(() => pixelCoordinates(2, 2));
  });

  it('read three planes, added up or side by side', () => {
    const planes = { xy: field(), yz: new Rng(5).normal([2, 3, 2, 2]), xz: new Rng(6).normal([2, 3, 6, 6]) };
    const at = points(7, 3);
    const added = readTriplane(planes, at);
    const beside = readTriplane(planes, at, { combine: 'concat' });
    expect([added.shape, beside.shape]).toEqual([
      [2, 7, 3],
      [2, 7, 9],
    ]);
    const row = (beside.arraySync() as number[][][])[1][4];
    expect((added.arraySync() as number[][][])[1][4][0]).toBeCloseTo(row[0] + row[3] + row[6], 5);
    expectNoLeak(() => readTriplane(planes, at));
  });

  it('refuse shapes that do not fit', () => {
    expect(() => readBasisField(field(), points(3, 3))).toThrow(ShapeError);
    expect(() => readBasisField(points(3, 3), points(3, 2))).toThrow(ShapeError);
    expect(() => tidy(() => readTriplane({ xy: field(), yz: field(), xz: field() }, points(3, 2)))).toThrow(
      /\[\.\.\., 3\]/,
    );
    expect(() => pixelCoordinates(0, 3)).toThrow(ConfigError);
  });
});
