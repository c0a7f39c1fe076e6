import '@ashlar/tensor';
import { checkGradientCase, customGradientCases, gradientCases } from '@ashlar/tensor/testing';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, it } from 'vitest';
import './compare.testing.ts';
import { policy } from './register.ts';

beforeAll(async () => {
  await tf.setBackend('ort');
  policy.always = true;
});

afterAll(() => {
  policy.always = false;
});

const examples = [...Object.values(gradientCases).flat(), ...customGradientCases];

describe('gradients of first and second order, in native code', () => {
  it.each(examples.map((example) => ({ name: example[0], example })))('$name', ({ example }) => {
    checkGradientCase(example);
  });
});
