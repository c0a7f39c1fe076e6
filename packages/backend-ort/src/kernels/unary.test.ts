import * as tf from '@tensorflow/tfjs-core';
import { describe, it } from 'vitest';
import { bools, expectSame, floats, ints } from '../compare.testing.ts';

const SPECIAL = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  1.5,
  2.5,
  -1.5,
];
const EXTREME = [-200, -88, -30, -20, -16, -10, -1e-5, 1e-5, 10, 16, 20, 30, 88, 200, 1e30, -1e30, 1e-30];

const OPS: Record<string, (x: tf.Tensor) => tf.Tensor> = {
  abs: tf.abs,
  acos: tf.acos,
  acosh: tf.acosh,
  asin: tf.asin,
  asinh: tf.asinh,
  atan: tf.atan,
  atanh: tf.atanh,
  ceil: tf.ceil,
  clip: (x) => tf.clipByValue(x, -0.5, 0.75),
  cos: tf.cos,
  cosh: tf.cosh,
  elu: tf.elu,
  erf: tf.erf,
  exp: tf.exp,
  expm1: tf.expm1,
  floor: tf.floor,
  isFinite: tf.isFinite,
  isInf: tf.isInf,
  isNaN: tf.isNaN,
  leakyRelu: (x) => tf.leakyRelu(x, 0.1),
  log: tf.log,
  log1p: tf.log1p,
  neg: tf.neg,
  reciprocal: tf.reciprocal,
  relu: tf.relu,
  relu6: tf.relu6,
  round: tf.round,
  rsqrt: tf.rsqrt,
  selu: tf.selu,
  sigmoid: tf.sigmoid,
  sign: tf.sign,
  sin: tf.sin,
  sinh: tf.sinh,
  softplus: tf.softplus,
  sqrt: tf.sqrt,
  square: tf.square,
  step: (x) => tf.step(x, 0.25),
  tan: tf.tan,
  tanh: tf.tanh,
};

/** Where results may grow without bound, compare each value on its own scale through a logarithm-like squash. */
const TRIGONOMETRIC = new Set(['sin', 'cos', 'tan']);

describe.each(Object.entries(OPS))('%s', (name, op) => {
  it.each([[[5]], [[3, 4]], [[64, 96]], [[7, 31, 33]]])('of float32 %j', (shape) =>
    expectSame(() => op(floats(shape, -4, 4))),
  );

  it.each([12, 6000])('of special values, %d of them', (size) =>
    expectSame(() => op(tf.tensor1d(Array.from({ length: size }, (_, i) => SPECIAL[i % SPECIAL.length]!)))),
  );

  it.skipIf(TRIGONOMETRIC.has(name)).each(EXTREME)('of %d', (value) => expectSame(() => op(tf.fill([5000], value))));
});

describe('other types', () => {
  it.each(['abs', 'neg', 'square', 'relu', 'sign'])('%s of int32', (name) =>
    expectSame(() => OPS[name]!(ints([80, 80]))),
  );
  it('not of bool', () => expectSame(() => tf.logicalNot(bools([80, 80]) as tf.Tensor)));
});
