import '@tensorflow/tfjs-backend-cpu';
import { attend } from '@ashlar/nn';
import {
  abs,
  Buffer,
  ConfigError,
  concat,
  einsum,
  lossAndGrads,
  max,
  Parameter,
  Rng,
  range,
  ShapeError,
  setBackend,
  slice,
  square,
  stateDict,
  sub,
  sum,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
  zerosLike,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { MdLrpe, type MdLrpeOptions, Rope } from './index.ts';

const rng = new Rng('md-lrpe');
const random = (name: string, shape: number[]): Tensor => rng.fork(name).normal(shape);
const furthest = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);
const products = (encoding: MdLrpe, q: Tensor, k: Tensor, positions: Tensor): Tensor =>
  tidy(() => {
    const [qs, ks] = encoding.rotate(q, k, positions, positions);
    return einsum('bhqd,bhkd->bhqk', qs, ks);
  });

beforeAll(() => setBackend('cpu'));

describe('MdLrpe', () => {
  it.each<[string, MdLrpeOptions]>([
    ['cosine', { headDim: 5, axes: 2 }],
    ['rotary', { headDim: 8, axes: 2, form: 'rotary' }],
    ['cosine, three axes', { headDim: 4, axes: 3 }],
  ])('%s: products depend on the distance on each axis alone', (_, options) => {
    const { headDim, axes = 1 } = options;
    const encoding = new MdLrpe(options);
    const [q, k] = ['q', 'k'].map((name) => random(name, [1, 2, 4, headDim]));
    const at = rng.fork('at').integers([4, axes], 0, 9);
    const expected = products(encoding, q, k, at);
    const shifts = tensor2d([Array.from({ length: axes }, (_, axis) => -7 * (axis + 1))]);
    expect(furthest(products(encoding, q, k, sub(at, shifts)), expected)).toBeLessThan(1e-4);
    const oneAxis = sub(at, concat([tensor2d([[3, ...Array(axes - 1).fill(0)]]), zerosLike(slice(at, [1, 0]))], 0));
    expect(furthest(products(encoding, q, k, oneAxis), expected)).toBeGreaterThan(0.1);
  });

  it('has the angles of LRPE, and in the rotary form of one axis those of Rope', () => {
    const x = random('x', [1, 1, 3, 4]);
    const positions = tensor1d([0, 2, 5], 'int32');
    const encoding = new MdLrpe({ headDim: 4 });
    const values = x.dataSync();
    const out = encoding.apply(x, positions).dataSync();
    for (const [row, position] of [0, 2, 5].entries()) {
      for (let c = 0; c < 4; c++) {
        const angle = position * 10000 ** ((-2 * c) / 4);
        expect(out[row * 8 + c]).toBeCloseTo(values[row * 4 + c] * Math.cos(angle), 5);
        expect(out[row * 8 + 4 + c]).toBeCloseTo(values[row * 4 + c] * Math.sin(angle), 5);
      }
    }
    // Rope's exponents are halves of LRPE's.
    const rotary = new MdLrpe({ headDim: 4, form: 'rotary', base: 100 });
    expect(furthest(rotary.apply(x, positions), new Rope({ headDim: 4 }).apply(x, positions))).toBeLessThan(1e-5);
  });

  it('reads positions [seq] as cells of a grid after the extra tokens, in a part of the sequence too', () => {
    const encoding = new MdLrpe({ headDim: 4, gridShape: [2, 3], extraTokens: 2 });
    const x = random('x', [1, 1, 8, 4]);
    const cells = tensor2d([
      [0, 0],
      [0, 0],
      [0, 0],
      [0, 1],
      [0, 2],
      [1, 0],
      [1, 1],
      [1, 2],
    ]);
    const flat = range(0, 8, 1, 'int32');
    expect(furthest(encoding.apply(x, flat), encoding.apply(x, cells))).toBe(0);
    const last = encoding.apply(slice(x, [0, 0, 6, 0]), slice(flat as Tensor, [6]));
    expect(furthest(last, slice(encoding.apply(x, flat), [0, 0, 6, 0]))).toBe(0);
    const line = new MdLrpe({ headDim: 4, extraTokens: 2 });
    expect(furthest(line.apply(x, flat), line.apply(x, tensor2d([[0], [0], [0], [1], [2], [3], [4], [5]])))).toBe(0);
  });

  it('has right gradients in tokens, positions and learned angles; fixed ones are no parameters', () => {
    for (const form of ['cosine', 'rotary'] as const) {
      const encoding = new MdLrpe({ headDim: 4, heads: 2, axes: 2, form, base: 4 });
      const positions = random('positions', [2, 2]);
      gradCheck((x, positions) => encoding.apply(x, positions), [random('x', [1, 2, 2, 4]), positions], {
        order: form === 'cosine' ? 2 : 1,
      });
      const x = random('x', [1, 4, 2, 4]);
      const { grads } = lossAndGrads(() => {
        const [q, k] = encoding.rotate(x, slice(x, [0, 0, 0, 0], [-1, 2, -1, -1]), positions, positions);
        return sum(square(sub(slice(q, [0, 0, 0, 0], [-1, 2, 1, -1]), slice(k, [0, 0, 1, 0], [-1, -1, 1, -1]))));
      }, encoding.trainableParameters());
      expect(max(abs(grads.get('theta') as Tensor)).dataSync()[0]).toBeGreaterThan(0.01);
      expectNoLeak(() => encoding.rotate(x, x, positions, positions));
    }
    expect(new MdLrpe({ headDim: 4, axes: 2 }).theta).toBeInstanceOf(Parameter);
    const fixed = new MdLrpe({ headDim: 4 });
    expect(fixed.theta).toBeInstanceOf(Buffer);
    expect([...stateDict(fixed)]).toEqual([]);
  });

  it('works in grouped-query attention, which scales by the width before it', () => {
    const encoding = new MdLrpe({ headDim: 4, heads: 2, trainable: true });
    encoding.theta.assign(rng.fork('theta').uniform([2, 4]));
    const [q, k, v] = [4, 2, 2].map((heads, i) => random(`${i}`, [1, heads, 5, 4]));
    const origin = tensor1d([0, 0, 0, 0, 0]);
    // All at one place: as if there were no encoding.
    const same = attend(q, k, v, { encoding, qPositions: origin, kPositions: origin });
    expect(furthest(same, attend(q, k, v))).toBeLessThan(1e-6);
    expect(furthest(attend(q, k, v, { encoding }), attend(q, k, v))).toBeGreaterThan(0.01);
  });

  it('names options and shapes that do not fit', () => {
    expect(() => new MdLrpe({ headDim: 0 })).toThrow(ConfigError);
    expect(() => new MdLrpe({ headDim: 6, axes: 2, form: 'rotary' })).toThrow(/headDim is 6.*multiple of 4/);
    expect(() => new MdLrpe({ headDim: 4, axes: 2, gridShape: [3] })).toThrow(/gridShape is/);
    expect(() => new MdLrpe({ headDim: 4, form: 'sine' as 'cosine' })).toThrow(/form is "sine"/);
    const encoding = new MdLrpe({ headDim: 4, heads: 2, gridShape: [2, 2] });
    const x = random('x', [1, 2, 5, 4]);
    expect(() => encoding.apply(x, range(0, 5, 1, 'int32'))).toThrow(/position 4 is outside the grid \[2,2\]/);
    expect(() => encoding.apply(x, range(0, 4, 1, 'int32'))).toThrow(ShapeError);
    expect(() => encoding.apply(random('x', [1, 3, 4, 4]), range(0, 4, 1, 'int32'))).toThrow(/multiple of its 2/);
    expect(() => encoding.apply(x, random('positions', [5, 3]))).toThrow(/positions must be \[seq, 2\]/);
  });
});
