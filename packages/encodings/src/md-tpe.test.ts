import '@tensorflow/tfjs-backend-cpu';
import {
  abs,
  add,
  ConfigError,
  lossAndGrads,
  max,
  Rng,
  reshape,
  ShapeError,
  setBackend,
  square,
  stateDict,
  sub,
  sum,
  type Tensor,
  tensor1d,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { MdTpe, Tpe } from './index.ts';

const [DIM, HEADS] = [4, 2];
const rng = new Rng('md-tpe');
const random = (name: string, shape: number[]): Tensor => rng.fork(name).normal(shape);
const furthest = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);
const options = { dim: DIM, heads: HEADS, rng: rng.fork('tpe') };

/** Every parameter as random numbers. */
function randomized<T extends Tpe | MdTpe>(module: T): T {
  for (const [name, parameter] of module.namedParameters()) parameter.assign(random(name, parameter.shape));
  return module;
}

beforeAll(() => setBackend('cpu'));

describe('Tpe', () => {
  it.each(['sigmoid', 'expexp'] as const)('is its recurrence over any number of chunks, decay %s', (decay) => {
    const tpe = randomized(new Tpe({ ...options, decay }));
    const state = (name: string): Float32Array => (stateDict(tpe).get(name) as Tensor).dataSync<'float32'>();
    const [q, k, w, weight, projection] = ['q', 'k', 'log_decay', 'norm.weight', 'o_proj.weight'].map(state);
    for (const length of [1, 64, 200]) {
      const x = random('x', [1, length, DIM]);
      const values = x.dataSync();
      const sums = new Float64Array(DIM);
      const expected: number[] = [];
      for (let i = 0; i < length; i++) {
        const y = Array.from(sums, (_, c) => {
          const head = Math.floor(c / 2);
          const rate = decay === 'sigmoid' ? 1 / (1 + Math.exp(-w[head])) : Math.exp(-Math.exp(w[head]));
          sums[c] = rate * sums[c] + values[i * DIM + c];
          return sums[c] * (q[2 * head] * k[2 * head] + q[2 * head + 1] * k[2 * head + 1]);
        });
        const norm = Math.sqrt(y.reduce((total, value) => total + value * value, 1e-5) / DIM);
        const scaled = y.map((value, c) => (value / norm) * weight[c]);
        for (let row = 0; row < DIM; row++) {
          expected.push(scaled.reduce((total, value, c) => total + value * projection[row * DIM + c], 0));
        }
      }
      const actual = tpe.apply(x).dataSync();
      expect(Math.max(...expected.map((value, i) => Math.abs(value - actual[i])))).toBeLessThan(5e-5);
    }
  });

  it('names options and shapes that do not fit', () => {
    expect(() => new Tpe({ ...options, heads: 3 })).toThrow(/dim is 4; it must be a multiple of heads, 3/);
    expect(() => new Tpe({ ...options, decay: 'exp' as 'sigmoid' })).toThrow(/decay is "exp"/);
    expect(() => new Tpe(options).apply(random('x', [1, 2, 3]))).toThrow(ShapeError);
  });
});

describe('MdTpe', () => {
  it('adds up what each axis says', () => {
    const both = randomized(new MdTpe({ ...options, axes: [-2, -3] }));
    const x = random('x', [2, 3, 4, DIM]);
    const turned = transpose(x, [0, 2, 1, 3]);
    const swapped = new MdTpe({ ...options, axes: [-3, -2] });
    for (const [name, parameter] of swapped.namedParameters()) parameter.assign(both.getParameter(name).stored.clone());
    expect(furthest(transpose(swapped.apply(turned), [0, 2, 1, 3]), both.apply(x))).toBeLessThan(1e-5);
    // One-sided on both axes: a cell that is not below and to the right of a change sees none of it.
    const hit = reshape(tensor1d(Array.from({ length: 12 }, (_, cell) => (cell === 6 ? 1 : 0))), [1, 3, 4, 1]);
    const seen = sum(abs(sub(both.apply(add(x, hit)), both.apply(x))), [0, 3]).arraySync() as number[][];
    expect(seen.map((row) => row.map((value) => value > 1e-6))).toEqual([
      [false, false, false, false],
      [false, false, true, true],
      [false, false, true, false],
    ]);
  });

  it('starts as the identity with a residual, and lets a little through without one', () => {
    const x = random('x', [1, 3, DIM]);
    expect(furthest(new MdTpe({ ...options, residual: true }).apply(x), x)).toBe(0);
    const plain = max(abs(new MdTpe(options).apply(x))).dataSync()[0];
    expect(plain).toBeGreaterThan(0);
    expect(plain).toBeLessThan(0.1);
    expect(new MdTpe(options).apply(x).dataSync()).toEqual(new MdTpe(options).apply(x).dataSync());
  });

  it('has right gradients of both orders and in every parameter, and leaks nothing', () => {
    const tpe = randomized(new MdTpe({ ...options, axes: [-2, -3], residual: true }));
    gradCheck((x) => tpe.apply(x), [random('x', [1, 2, 2, DIM])]);
    const x = random('x', [1, 70, 2, DIM]);
    const { grads } = lossAndGrads(() => sum(square(tpe.apply(x))), tpe.trainableParameters());
    for (const gradient of grads.values()) expect(max(abs(gradient)).dataSync()[0]).toBeGreaterThan(0);
    expectNoLeak(() => tpe.apply(x));
  });

  it('names options and shapes that do not fit', () => {
    for (const axes of [[], [-1], [-2, -2], [1], [-2.5]]) {
      expect(() => new MdTpe({ ...options, axes })).toThrow(ConfigError);
    }
    expect(() => new MdTpe({ ...options, axes: [-2, -3] }).apply(random('x', [2, 3, DIM]))).toThrow(
      /no axes \[-2,-3\]/,
    );
  });
});
