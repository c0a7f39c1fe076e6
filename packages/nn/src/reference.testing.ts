import type { Module } from '@ashlar/tensor';
import { disposeMap, lossAndGrads, memory, mul, Rng, sum, type Tensor, tensor, tidy } from '@ashlar/tensor';
import { expect } from 'vitest';

/** A module of any signature. */
type AnyModule = Pick<Module, 'namedParameters'>;

/** Nested plain arrays. */
export type Vector = number[];
export type Matrix = number[][];

/** `size` irregular numbers in [-1, 1]. */
export function numbers(size: number, seed: string | number = 0): Vector {
  return Array.from(new Rng(seed).uniformArray(size), (u) => 2 * u - 1);
}

export function random(shape: number[], seed: string | number = 0): Tensor {
  return tensor(
    numbers(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  );
}

/** The rows of the last axis. */
export function rowsOf(x: Tensor): Matrix {
  const width = x.shape[x.rank - 1] as number;
  const values = Array.from(x.dataSync());
  return Array.from({ length: values.length / width }, (_, i) => values.slice(i * width, (i + 1) * width));
}

/** `a b^T`. */
export const timesTransposed = (a: Matrix, b: Matrix): Matrix => a.map((row) => b.map((other) => dot(row, other)));

export const dot = (a: Vector, b: Vector): number => a.reduce((total, x, i) => total + x * b[i], 0);

export function softmaxOf(logits: Vector): Vector {
  const highest = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp(logit - highest));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

export function expectClose(actual: Tensor, expected: Vector | Matrix, tolerance = 1e-5): void {
  const [values, wanted] = [actual.dataSync(), expected.flat()];
  expect(values.length).toBe(wanted.length);
  const worst = wanted.reduce((most, value, i) => Math.max(most, Math.abs(value - values[i])), 0);
  expect(worst, `largest difference ${worst}`).toBeLessThan(tolerance);
}

/** Checks the gradients of all parameters of `module`, through `f`, against central differences. */
export function checkParameterGradients(module: AnyModule, f: () => Tensor): void {
  const parameters = new Map(module.namedParameters());
  const weightsOf = (size: number): Vector => Array.from({ length: size }, (_, i) => 0.5 + ((i * 0.618) % 1));
  const loss = (): Tensor => {
    const y = f();
    return sum(mul(y, tensor(weightsOf(y.size), y.shape)));
  };
  const { loss: value, grads } = lossAndGrads(loss, parameters);
  const lossAt = (): number => {
    const y = tidy(f);
    const values = y.dataSync();
    y.dispose();
    return dot(weightsOf(values.length), Array.from(values));
  };
  for (const [name, parameter] of parameters) {
    const gradient = (grads.get(name) as Tensor).dataSync();
    const base = Float32Array.from(parameter.stored.dataSync());
    const differences = Array.from(base, (_, i) => {
      const [up, down] = [1, -1].map((sign) => {
        const moved = Float32Array.from(base);
        moved[i] += sign / 64;
        parameter.assign(tensor(moved, parameter.shape));
        return lossAt();
      });
      return (up - down) * 32;
    });
    parameter.assign(tensor(base, parameter.shape));
    const scale = Math.max(1, ...differences.map(Math.abs));
    for (const [i, difference] of differences.entries()) {
      expect(Math.abs(gradient[i] - difference), `${name}[${i}]: ${gradient[i]}, not ${difference}`).toBeLessThan(
        3e-3 * scale,
      );
    }
  }
  value.dispose();
  disposeMap(grads);
}

/** Checks that building, using and disposing of what `make` gives leaves nothing behind. */
export function expectDisposes(make: () => { dispose(): void }, use: (made: never) => Tensor): void {
  const before = memory().numTensors;
  const made = make();
  use(made as never).dispose();
  made.dispose();
  expect(memory().numTensors).toBe(before);
}
