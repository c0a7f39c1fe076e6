import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bools, expectSame, floats, ints, values } from '../compare.testing.ts';

type Op = (a: tf.Tensor, b: tf.Tensor) => tf.Tensor;

const NUMERIC: Record<string, Op> = {
  add: tf.add,
  sub: tf.sub,
  mul: tf.mul,
  div: tf.div,
  maximum: tf.maximum,
  minimum: tf.minimum,
  squaredDifference: tf.squaredDifference,
  floorDiv: tf.floorDiv,
  mod: tf.mod,
  equal: tf.equal,
  notEqual: tf.notEqual,
  greater: tf.greater,
  greaterEqual: tf.greaterEqual,
  less: tf.less,
  lessEqual: tf.lessEqual,
};

const SHAPES: [number[], number[]][] = [
  [[5], [5]],
  [
    [3, 1],
    [1, 4],
  ],
  [[], [6]],
  [
    [80, 90],
    [80, 90],
  ],
  [[80, 90], [90]],
  [[80, 90], []],
  [
    [80, 1],
    [1, 90],
  ],
  [
    [2, 1, 70, 64],
    [3, 1, 64],
  ],
];

const SPECIAL = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, -0, 1, -1, 2.5];

describe.each(Object.entries(NUMERIC))('%s', (_name, op) => {
  it.each(SHAPES)('of float32 %j and %j', (a, b) => expectSame(() => op(floats(a), floats(b, -3, 3, 2))));
  it.each(SHAPES)('of int32 %j and %j', (a, b) => expectSame(() => op(ints(a), ints(b, 1, 9, 2))));

  it.each([1, 100])('of every pair of special values, %d times', (times) => {
    const all = SPECIAL.flatMap((a) => SPECIAL.map((b) => [a, b] as const));
    const pairs = Array.from({ length: times }, () => all).flat();
    return expectSame(() => op(tf.tensor1d(pairs.map((p) => p[0])), tf.tensor1d(pairs.map((p) => p[1]))));
  });

  it('of mixed types', () => expectSame(() => op(floats([90, 80]), ints([80], 1, 5))));
});

describe('pow', () => {
  it.each(SHAPES)('of float32 %j and %j', (a, b) => expectSame(() => tf.pow(floats(a, 0.1, 3), floats(b, -2, 2, 2))));
  it('of negative bases and whole exponents', () =>
    expectSame(() => tf.pow(floats([80, 80]), tf.floor(floats([80, 80], 0, 5, 2)))));
  it('of int32', () => expectSame(() => tf.pow(ints([80, 80], 0, 5), ints([80, 80], 0, 4, 2))));
});

describe('logical and select', () => {
  it.each(SHAPES)('and, or, xor of %j and %j', (a, b) =>
    expectSame(() => [
      tf.logicalAnd(bools(a), bools(b, 2)),
      tf.logicalOr(bools(a), bools(b, 2)),
      tf.logicalXor(bools(a), bools(b, 2)),
    ]),
  );
  it.each(SHAPES)('where over %j and %j', (a, b) =>
    expectSame(() => [tf.where(bools(a), floats(a), floats(b, -1, 1, 3)), tf.where(bools(a), ints(a), ints(b))]),
  );
  it.each(SHAPES)('prelu of %j by %j', (a, b) => expectSame(() => tf.prelu(floats(a), floats(b, 0, 1, 2))));
  it.each([[[4]], [[90, 80]]])('addN of %j', (shape) =>
    expectSame(() => [
      tf.addN([floats(shape), floats(shape, 0, 1, 2), floats(shape, 0, 1, 3)]),
      tf.addN([ints(shape), ints(shape, 0, 9, 2)]),
      tf.addN([ints(shape)]),
    ]),
  );
  it.each([[[4]], [[90, 80]]])('eluGrad of %j', (shape) =>
    expectSame(() => tf.engine().runKernel('EluGrad', { dy: floats(shape), y: floats(shape, -1, 2, 2) }) as tf.Tensor),
  );
});

describe('properties', () => {
  it('broadcasts as cpu does, whatever the shapes', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.constantFrom('both', 'a', 'b')), { maxLength: 4 }),
        fc.nat({ max: 4 }),
        async (dims, cut) => {
          const a = dims.map(([n, side]) => (side === 'b' ? 1 : n));
          const b = dims.map(([n, side]) => (side === 'a' ? 1 : n)).slice(Math.min(cut, dims.length));
          await expectSame(() => [tf.sub(floats(a), floats(b, 1, 2, 2)), tf.less(floats(b), floats(a))]);
        },
      ),
      { numRuns: 60 },
    ));

  it('names the shapes that do not broadcast', async () => {
    await tf.setBackend('ort');
    expect(() => tf.add(tf.zeros([70, 80]), tf.tensor1d(values(70)))).toThrow(/70,80.*70/);
  });
});
