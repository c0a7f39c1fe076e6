import '@tensorflow/tfjs-backend-cpu';
import {
  abs,
  ConfigError,
  disposeMap,
  lossAndGrads,
  max,
  Rng,
  ShapeError,
  setBackend,
  square,
  sub,
  sum,
  type Tensor,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { Loope, type LoopeOptions, sinusoidalTable } from './index.ts';

beforeAll(() => setBackend('cpu'));

const options: LoopeOptions = {
  grid: [2, 3],
  dim: 8,
  patchSize: 2,
  channels: [3, 2, 1],
  normalizeCoordinates: true,
  rng: new Rng(0),
};
const images = (seed = 1): Tensor => new Rng(seed).uniform([2, 3, 4, 6]);
const largest = (x: Tensor): number => tidy(() => max(abs(x)).dataSync()[0]);

describe('Loope', () => {
  it('moves patches by less than one place, by what the picture shows', () => {
    const loope = new Loope(options);
    const [static_, moved] = [new Loope({ ...options, contextBias: false }), loope].map((own) =>
      own.positions(images()),
    );
    expect(static_.shape).toEqual([2, 6]);
    const far = largest(sub(moved, static_));
    expect(far).toBeGreaterThan(1e-3);
    expect(far).toBeLessThan(1);
    expect(largest(sub(moved, loope.positions(images(2))))).toBeGreaterThan(1e-4);
    expect(loope.apply(images()).shape).toEqual([2, 6, 8]);
    expect(new Loope({ ...options, contextBias: false }).apply(images()).shape).toEqual([2, 6, 8]);
  });

  it('embeds rows and columns by the order, any of them', () => {
    const corners = tensor2d(
      [
        [0, 0],
        [1, 0],
        [1, 2],
      ],
      [3, 2],
      'int32',
    );
    const visits = (order: LoopeOptions['order']): Tensor => new Loope({ ...options, order }).embed(corners);
    const expected = (...places: number[]): Tensor => sinusoidalTable(tensor2d(places, [3, 1]), 8);
    expect(largest(sub(visits('raster'), expected(0, 3, 5)))).toBeLessThan(1e-6);
    expect(largest(sub(visits([5, 4, 3, 2, 1, 0]), expected(5, 2, 0)))).toBeLessThan(1e-6);
    expect(largest(sub(visits('gilbert'), visits('raster')))).toBeGreaterThan(0.1);
  });

  it('has right gradients in pictures and weights, and leaks nothing', () => {
    const loope = new Loope(options);
    const small = new Loope({ ...options, grid: [1, 2] });
    gradCheck((x) => small.apply(x), [new Rng(1).uniform([1, 3, 2, 4])]);
    const { loss, grads } = lossAndGrads(() => sum(square(loope.positions(images()))), loope.trainableParameters());
    expect(grads.size).toBe(2 * 3 + 2 + 2);
    expect([...grads.values()].some((gradient) => largest(gradient) > 1e-4)).toBe(true);
    loss.dispose();
    disposeMap(grads);
    const x = images();
    expectNoLeak(() => loope.apply(x));
    expectNoLeak(() => loope.eval().apply(x));
    const position = tensor2d([[0, 1]], [1, 2], 'int32');
    expectNoLeak(() => loope.embed(position));
  });

  it('starts the same from the same seed', () => {
    const of = (seed: number): Tensor => new Loope({ ...options, rng: new Rng(seed) }).apply(images());
    expect(of(3).dataSync()).toEqual(of(3).dataSync());
    expect(of(3).dataSync()).not.toEqual(of(4).dataSync());
  });

  it('names what does not fit', () => {
    const make = (change: Partial<LoopeOptions>) => () => new Loope({ ...options, ...change });
    expect(make({ dim: 7 })).toThrow(ShapeError);
    expect(make({ order: 'hilbert' })).toThrow(/use gilbertOrder/);
    expect(make({ order: 'spiral' as 'raster' })).toThrow(/order is "spiral"/);
    expect(make({ order: [0, 1] })).toThrow(/order has 2 numbers; it must have one for each of 6/);
    expect(make({ order: [0, 1, Number.NaN, 3, 4, 5] })).toThrow(/order has NaN/);
    expect(make({ channels: [4, 2] })).toThrow(/the last must be 1/);
    expect(make({ activation: 'tanh' as 'relu' })).toThrow(ConfigError);
    expect(() => new Loope(options).apply(new Rng(0).uniform([1, 3, 5, 6]))).toThrow(/\[batch, 3, 4, 6\]/);
    expect(() => new Loope(options).embed(tensor2d([[2, 0]], [1, 2], 'int32'))).toThrow(
      /\[2, 0\] is outside of the grid, 2 x 3/,
    );
  });
});
