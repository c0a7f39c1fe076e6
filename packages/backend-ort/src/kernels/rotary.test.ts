import { rotaryEmbedding } from '@ashlar/tensor';
import * as tf from '@tensorflow/tfjs-core';
import { it } from 'vitest';
import { expectSame, floats } from '../compare.testing.ts';

const turned = (shape: number[], interleaved: boolean): tf.Tensor => {
  const angles = floats([shape.at(-2)!, shape.at(-1)! / 2], -3, 3, 2);
  return rotaryEmbedding(floats(shape), tf.cos(angles), tf.sin(angles), { interleaved });
};

it.each([[[3, 4]], [[2, 3, 2]], [[2, 3, 40, 6]], [[1, 1, 400, 64]]])('rotaryEmbedding of %j', (shape) =>
  expectSame(() => [turned(shape, false), turned(shape, true)]),
);
