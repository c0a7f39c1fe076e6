import '@tensorflow/tfjs-backend-cpu';
import './index.ts';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { policy } from './register.ts';

/** Shared by the tests: run something on both backends and expect the same. */

export interface Tolerance {
  /** Allowed difference relative to the largest magnitude expected. */
  relative?: number;
}

interface Outcome {
  shape: number[];
  dtype: string;
  values: number[];
}

/** Deterministic values in `[low, high)`, the same on every call with the same arguments. */
export function values(size: number, low = -2, high = 2, seed = 1): number[] {
  let state = seed * 2654435761;
  return Array.from({ length: size }, () => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 374761393) | 0;
    return low + ((state >>> 0) / 2 ** 32) * (high - low);
  });
}

export function floats(shape: number[], low?: number, high?: number, seed?: number): tf.Tensor {
  return tf.tensor(values(tf.util.sizeFromShape(shape), low, high, seed), shape, 'float32');
}

export function ints(shape: number[], low = -9, high = 9, seed?: number): tf.Tensor {
  return tf.tensor(values(tf.util.sizeFromShape(shape), low, high, seed).map(Math.floor), shape, 'int32');
}

export function bools(shape: number[], seed?: number): tf.Tensor {
  return tf.tensor(
    values(tf.util.sizeFromShape(shape), 0, 1, seed).map((v) => v > 0.5),
    shape,
    'bool',
  );
}

export type Computation = () => tf.Tensor | tf.Tensor[];

export async function outcomes(backend: string, compute: Computation): Promise<Outcome[]> {
  await tf.setBackend(backend);
  const before = tf.memory().numTensors;
  const results = tf.tidy(() => {
    const out = compute();
    return [out].flat().map((t) => ({ shape: t.shape, dtype: t.dtype, values: Array.from(t.dataSync()) }));
  });
  expect(tf.memory().numTensors, 'leaked tensors').toBe(before);
  return results;
}

/**
 * Expect `ort` to compute what `cpu` does: equal shapes, types and values, NaN and infinities included; once as users
 * run it and once with every call in ONNX, however small.
 */
export async function expectSame(compute: Computation, { relative = 1e-5 }: Tolerance = {}): Promise<void> {
  const expected = await outcomes('cpu', compute);
  expectClose('ort', await outcomes('ort', compute), expected, relative);
  policy.always = true;
  try {
    expectClose('ort (always native)', await outcomes('ort', compute), expected, relative);
  } finally {
    policy.always = false;
  }
}

function expectClose(name: string, actual: Outcome[], expected: Outcome[], relative: number): void {
  const types = (outcome: Outcome[]) => outcome.map(({ shape, dtype }) => ({ shape, dtype }));
  expect(types(actual), name).toEqual(types(expected));
  expected.forEach((want, k) => {
    let scale = 1;
    for (const value of want.values) if (Number.isFinite(value)) scale = Math.max(scale, Math.abs(value));
    want.values.forEach((value, i) => {
      const got = actual[k]!.values[i]!;
      const same = Number.isFinite(value) ? Math.abs(got - value) <= relative * scale : Object.is(got, value);
      if (!same) throw new Error(`output ${k}[${i}] is ${got} on ${name} and ${value} on cpu (shape ${want.shape})`);
    });
  });
}
