import * as tf from '@tensorflow/tfjs-core';
import { type GradientCases, positive } from './case.ts';

const away = { sample: (i: number) => positive(i) + 0.3 };
const half = (x: tf.Tensor): tf.Tensor => tf.mul(x, 0.5);

/** Elementwise operations of one argument. */
export const unary: GradientCases = {
  Abs: [['abs', (x) => tf.abs(x), '5']],
  Acos: [['acos', (x) => tf.acos(half(x)), '5']],
  Acosh: [['acosh', (x) => tf.acosh(tf.add(x, 1)), '5', away]],
  Asin: [['asin', (x) => tf.asin(half(x)), '5']],
  Asinh: [['asinh', (x) => tf.asinh(x), '5']],
  Atan: [['atan', (x) => tf.atan(x), '5']],
  Atanh: [['atanh', (x) => tf.atanh(half(x)), '5']],
  Cast: [['cast', (x) => tf.cast(x, 'float32'), '3']],
  Ceil: [['ceil', (x) => tf.ceil(x), '5', { sample: (i) => i - 2.5 }]],
  ClipByValue: [['clipByValue', (x) => tf.clipByValue(x, -0.5, 0.7), '5']],
  Cos: [['cos', (x) => tf.cos(x), '5']],
  Cosh: [['cosh', (x) => tf.cosh(x), '5']],
  Elu: [['elu', (x) => tf.elu(x), '5']],
  Erf: [['erf', (x) => tf.erf(x), '5']],
  Exp: [['exp', (x) => tf.exp(x), '5']],
  Expm1: [['expm1', (x) => tf.expm1(x), '5']],
  Floor: [['floor', (x) => tf.floor(x), '5', { sample: (i) => i - 2.5 }]],
  Identity: [['clone', (x) => tf.clone(x), '3']],
  LeakyRelu: [['leakyRelu', (x) => tf.leakyRelu(x, 0.1), '5']],
  Log: [['log', (x) => tf.log(x), '5', away]],
  Log1p: [['log1p', (x) => tf.log1p(x), '5', { sample: positive }]],
  Neg: [['neg', (x) => tf.neg(x), '5']],
  OnesLike: [['onesLike', (x) => tf.onesLike(x), '3']],
  Reciprocal: [['reciprocal', (x) => tf.reciprocal(x), '5', away]],
  Relu: [['relu', (x) => tf.relu(x), '5']],
  Relu6: [['relu6', (x) => tf.relu6(x), '5', { sample: (i) => 2.4 * i - 3.1 }]],
  Round: [['round', (x) => tf.round(x), '5', { sample: (i) => i - 2.2 }]],
  Rsqrt: [['rsqrt', (x) => tf.rsqrt(x), '5', away]],
  Selu: [['selu', (x) => tf.selu(x), '5']],
  Sigmoid: [
    ['sigmoid', (x) => tf.sigmoid(x), '5'],
    ['logSigmoid', (x) => tf.logSigmoid(x), '5'],
  ],
  Sign: [['sign', (x) => tf.sign(x), '5']],
  Sin: [['sin', (x) => tf.sin(x), '5']],
  Sinh: [['sinh', (x) => tf.sinh(x), '5']],
  Softplus: [['softplus', (x) => tf.softplus(x), '5']],
  Sqrt: [['sqrt', (x) => tf.sqrt(x), '5', away]],
  Square: [['square', (x) => tf.square(x), '5']],
  Step: [['step', (x) => tf.step(x, 0.3), '5']],
  Tan: [['tan', (x) => tf.tan(half(x)), '5']],
  Tanh: [['tanh', (x) => tf.tanh(x), '5']],
  ZerosLike: [['zerosLike', (x) => tf.zerosLike(x), '3']],
};
