import '@tensorflow/tfjs-backend-cpu';
import {
  ConfigError,
  cast,
  concat,
  gather,
  matMul,
  Rng,
  range,
  reshape,
  ShapeError,
  setBackend,
  slice,
  type Tensor,
  tensor,
  tensor1d,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { Rope, type RopeOptions } from './rope.ts';

beforeAll(() => setBackend('cpu'));

const sample = (shape: number[], seed = 0): Tensor => new Rng(seed).normal(shape);
const ints = (...positions: number[]): Tensor => tensor1d(positions, 'int32');

function expectClose(actual: Tensor, expected: Tensor, digits = 5): void {
  expect(actual.shape).toEqual(expected.shape);
  const values = expected.dataSync();
  for (const [i, value] of actual.dataSync().entries()) expect(value).toBeCloseTo(values[i], digits);
}

describe('Rope', () => {
  it('turns each pair by position times frequency', () => {
    const x = tensor([1, 2, 3, 4], [1, 1, 1, 4]);
    const turn = (a: number, b: number, angle: number): [number, number] => [
      a * Math.cos(angle) - b * Math.sin(angle),
      b * Math.cos(angle) + a * Math.sin(angle),
    ];
    const [[a, c], [b, d]] = [turn(1, 3, 7), turn(2, 4, 0.07)];
    expectClose(new Rope({ headDim: 4 }).apply(x, ints(7)), tensor([a, b, c, d], [1, 1, 1, 4]));
    const pairs = [...turn(1, 2, 7), ...turn(3, 4, 0.07)];
    expectClose(new Rope({ headDim: 4, layout: 'interleaved' }).apply(x, ints(7)), tensor(pairs, [1, 1, 1, 4]));
  });

  it('has layouts that differ by the order of channels alone', () => {
    const x = sample([2, 3, 4, 8]);
    const order = tensor1d([0, 4, 1, 5, 2, 6, 3, 7], 'int32');
    const positions = ints(0, 3, 3, 9);
    const half = new Rope({ headDim: 8 }).apply(x, positions);
    const interleaved = new Rope({ headDim: 8, layout: 'interleaved' }).apply(gather(x, order, 3), positions);
    expectClose(interleaved, gather(half, order, 3));
  });

  it('makes products depend on distances alone', () => {
    const options = fc.record({
      layout: fc.constantFrom('half' as const, 'interleaved' as const),
      fraction: fc.constantFrom(0.25, 0.5, 1),
      shift: fc.integer({ min: -500, max: 500 }),
      seed: fc.nat(1000),
    });
    fc.assert(
      fc.property(options, ({ layout, fraction, shift, seed }) => {
        const rope = new Rope({ headDim: 16, layout, fraction });
        const products = (offset: number): Tensor =>
          tidy(() => {
            const [q, k] = rope.rotate(
              sample([1, 2, 2, 16], seed),
              sample([1, 2, 3, 16], seed + 1),
              ints(4 + offset, 5 + offset),
              ints(3 + offset, 4 + offset, 9 + offset),
            );
            return matMul(q, k, false, true);
          });
        expectClose(products(shift), products(0), 2);
      }),
      { numRuns: 20 },
    );
  });

  it('takes fractional positions, whole ones as floats, and fewer key heads', () => {
    const rope = new Rope({ headDim: 8 });
    const [q, k] = [sample([2, 4, 3, 8]), sample([2, 2, 3, 8])];
    const positions = ints(0, 7, 1000);
    const [qInt, kInt] = rope.rotate(q, k, positions, positions);
    const [qFloat, kFloat] = rope.rotate(q, k, cast(positions, 'float32'), cast(positions, 'float32'));
    expectClose(qInt, qFloat);
    expectClose(kInt, kFloat);
    const once = rope.apply(rope.apply(q, tensor1d([0.25, 1.5, 3])), tensor1d([0.75, 0.5, 4]));
    expectClose(once, rope.apply(q, tensor1d([1, 2, 7])));
  });

  it('leaves channels beyond the fraction alone', () => {
    const x = sample([1, 2, 3, 8]);
    const positions = ints(1, 2, 3);
    const y = new Rope({ headDim: 8, fraction: 0.5 }).apply(x, positions);
    const part = (t: Tensor, from: number): Tensor => slice(t, [0, 0, 0, from], [-1, -1, -1, 4]);
    expectClose(part(y, 4), part(x, 4), 12);
    expectClose(part(y, 0), new Rope({ headDim: 4 }).apply(part(x, 0), positions));
  });

  it.each(['half', 'interleaved'] as const)('turns halves of the channels by two coordinates, %s', (layout) => {
    const x = sample([2, 2, 3, 8]);
    const positions = tensor2d(
      [
        [0, 5],
        [2, 1],
        [7, 7],
      ],
      [3, 2],
      'int32',
    );
    const one = new Rope({ headDim: 4, layout });
    const halves = [0, 1].map((axis) =>
      one.apply(slice(x, [0, 0, 0, 4 * axis], [-1, -1, -1, 4]), reshape(slice(positions, [0, axis], [-1, 1]), [-1])),
    );
    const two = new Rope({ headDim: 8, layout, axes: 2 });
    expectClose(two.apply(x, positions), concat(halves, 3));
    expectClose(two.apply(x, cast(positions, 'float32')), concat(halves, 3));
  });

  it.each(['half', 'interleaved'] as const)('turns a third of the channels with each of three axes, %s', (layout) => {
    const x = sample([1, 2, 2, 12]);
    const positions = tensor2d(
      [
        [3, 0, 5],
        [1, 9, 2],
      ],
      [2, 3],
      'int32',
    );
    const one = new Rope({ headDim: 4, layout });
    const thirds = [0, 1, 2].map((axis) =>
      one.apply(slice(x, [0, 0, 0, 4 * axis], [-1, -1, -1, 4]), reshape(slice(positions, [0, axis], [-1, 1]), [-1])),
    );
    expectClose(new Rope({ headDim: 12, layout, axes: 3 }).apply(x, positions), concat(thirds, 3));
  });

  it('follows the length with dynamic scaling, and comes back', () => {
    const rope = new Rope({ headDim: 8, maxPositions: 8, scaling: { rope_type: 'dynamic', factor: 2 } });
    const plain = new Rope({ headDim: 8 });
    const [short, long] = [range(0, 8, 1, 'int32'), range(0, 32, 1, 'int32')];
    const keys = sample([1, 1, 32, 8]);
    const query = sample([1, 1, 1, 8]);
    const first = slice(keys, [0, 0, 0, 0], [-1, -1, 8, -1]);
    expectClose(rope.rotate(query, first, ints(7), short)[1], plain.apply(first, short));
    // The query alone is at the end, so its length comes from the keys.
    const [q, k] = rope.rotate(query, keys, ints(31), long);
    const stretched = new Rope({ headDim: 8, base: 10000 * ((2 * 32) / 8 - 1) ** (8 / 6) });
    expectClose(q, stretched.apply(query, ints(31)));
    expectClose(k, stretched.apply(keys, long), 4);
    expectClose(rope.rotate(query, first, ints(7), short)[1], plain.apply(first, short));
  });

  it('scales cosines and sines by YaRN’s attention factor', () => {
    const scaling = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 64 };
    const x = sample([1, 1, 1, 8]);
    const rope = new Rope({ headDim: 8, scaling });
    const scale = 0.1 * Math.log(4) + 1;
    for (const positions of [ints(0), tensor1d([0])]) {
      const y = rope.apply(x, positions);
      for (const [i, value] of y.dataSync().entries()) expect(value).toBeCloseTo(scale * x.dataSync()[i], 5);
    }
  });

  it('has right gradients of both orders and leaks nothing', () => {
    for (const options of [{ fraction: 0.5 }, { layout: 'interleaved' as const }]) {
      const rope = new Rope({ headDim: 4, ...options });
      const positions = tensor1d([0.5, 3]);
      gradCheck((x, positions) => rope.apply(x, positions), [sample([1, 2, 2, 4]), positions]);
      const [q, k, whole] = [sample([1, 2, 2, 4]), sample([1, 1, 2, 4]), ints(0, 3)];
      expectNoLeak(() => rope.rotate(q, k, whole, whole));
      expectNoLeak(() => rope.apply(q, positions));
    }
  });

  it('refuses what cannot be rotated', () => {
    const of = (options: Partial<RopeOptions>) => () => new Rope({ headDim: 8, ...options });
    expect(of({ headDim: 7 })).toThrow(ShapeError);
    expect(of({ headDim: 7 })).toThrow(/7 rotated channels .* multiple of 2/);
    expect(of({ headDim: 6, axes: 2 })).toThrow(/multiple of 4/);
    expect(of({ fraction: 0.1 })).toThrow(/not pairs/);
    expect(of({ fraction: 1.5 })).toThrow(ConfigError);
    expect(of({ base: 0 })).toThrow(/base is 0/);
    expect(of({ layout: 'full' as 'half' })).toThrow(/"half", "interleaved"/);
    expect(of({ axes: 1.5 })).toThrow(/axes is 1.5/);
    expect(of({ axes: 3 })).toThrow(/for 3 axes.*multiple of 6/);
    expect(of({ scaling: { rope_type: 'linear', factor: 0.5 } })).toThrow(/factor is 0.5/);
    expect(of({ axes: 2, maxPositions: 8, scaling: { rope_type: 'dynamic' } })).toThrow(/axes 1/);
    expect(of({ headDim: 1e9 })).toThrow(/headDim is 1000000000/);
    for (const maxPositions of [-1, 0, Number.NaN, Number.POSITIVE_INFINITY, '8' as unknown as number]) {
      expect(of({ maxPositions })).toThrow(/Rope: maxPositions is/);
    }
    expect(of({ scaling: 'linear' as RopeOptions['scaling'] })).toThrow(/rope_scaling is "linear"/);
    expect(new Rope({ headDim: 8, scaling: null, maxPositions: null }).frequencies()).toEqual(
      new Rope({ headDim: 8 }).frequencies(),
    );
    const rope = new Rope({ headDim: 8 });
    expect(() => rope.apply(sample([1, 1, 2, 4]), ints(0, 1))).toThrow(/headDim and 2 positions, not \[1,1,2,4\]/);
    expect(() => rope.apply(sample([1, 1, 2, 8]), ints(0))).toThrow(ShapeError);
    expect(() => rope.apply(sample([1, 1, 1, 8]), tensor2d([[0, 1]]))).toThrow(/\[seq\], not \[1,2\]/);
  });
});
