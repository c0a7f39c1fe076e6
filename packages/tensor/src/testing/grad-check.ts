import { add, dispose, engine, mul, sum, type Tensor, tensor, tidy, zerosLike } from '@tensorflow/tfjs-core';
import { NumericsError } from '../errors.ts';

export interface GradCheckOptions {
  /** 1 checks gradients, 2 (the default) also the gradients of the gradients. */
  readonly order?: 1 | 2;
  /** Step of the differences; keep kinks (of relu, abs, max …) further than twice this from the inputs. Default 1/64. */
  readonly eps?: number;
  /** Tolerance relative to the expected element. Default 2e-3. */
  readonly rtol?: number;
  /** Tolerance relative to the largest expected element, or to 1 if that is smaller. Default 5e-4. */
  readonly atol?: number;
}

type Outputs = Tensor | readonly Tensor[];

/**
 * Checks the gradients of `f` against central differences.
 *
 * All outputs are weighted by fixed irregular numbers and summed to one number `L`. Order 1 compares `dL/dx` with the
 * differences of `L`; order 2 compares `d(u . dL/dx)/dx`, with `u` fixed too and running over all inputs at once, with the
 * differences of the gradients. Differences are of fourth order, `(8 (L(x + h) - L(x - h)) - (L(x + 2h) - L(x - 2h))) / 12h`,
 * and summed in double precision.
 * @param inputs only float32 ones are differentiated, the others are passed on as they are. They stay the caller's.
 * @throws NumericsError naming the input and the element whose gradient is wrong.
 */
export function gradCheck(
  f: (...inputs: Tensor[]) => Outputs,
  inputs: readonly Tensor[],
  options: GradCheckOptions = {},
): void {
  const { order = 2, ...tolerances } = options;
  const differentiable = inputs.flatMap((input, i) => (input.dtype === 'float32' ? [i] : []));
  const first = (xs: Tensor[]): Outputs => f(...xs);
  compare('gradient', first, inputs, differentiable, tolerances);
  if (order === 2) {
    const gradients = (xs: Tensor[]): Tensor[] => gradientsOf(first, xs, differentiable);
    compare('second-order gradient', gradients, inputs, differentiable, tolerances);
  }
}

function compare(
  what: string,
  f: (inputs: Tensor[]) => Outputs,
  inputs: readonly Tensor[],
  differentiable: readonly number[],
  { eps = 1 / 64, rtol = 2e-3, atol = 5e-4 }: Omit<GradCheckOptions, 'order'>,
): void {
  const gradients = tidy(() => gradientsOf(f, [...inputs], differentiable));
  const actual = gradients.map((gradient) => gradient.dataSync<'float32'>());
  dispose(gradients);
  for (const [slot, index] of differentiable.entries()) {
    const expected = differences(f, inputs, index, eps);
    const scale = Math.max(1, ...expected.map(Math.abs));
    for (const [element, value] of expected.entries()) {
      if (Math.abs(actual[slot][element] - value) <= rtol * Math.abs(value) + atol * scale) continue;
      throw new NumericsError(
        `The ${what} with respect to input ${index} [${inputs[index].shape}] is wrong at flat index ${element}: ` +
          `${actual[slot][element]}, by finite differences ${value}.\n  all: ${[...actual[slot]]}\n  differences: ${expected}`,
      );
    }
  }
}

/** Gradients of the weighted sum of `f`'s outputs; zeros where `f` does not depend on an input. */
function gradientsOf(f: (inputs: Tensor[]) => Outputs, inputs: Tensor[], differentiable: readonly number[]): Tensor[] {
  const xs = differentiable.map((i) => inputs[i]);
  const loss = (): Tensor =>
    list(f(inputs))
      .map((output, i) => sum(mul(output, tensor(weights(output.size, i), output.shape))))
      .reduce((total, term) => add(total, term));
  const { grads } = engine().gradients(loss, xs, undefined, true);
  return grads.map((gradient, i) => gradient ?? zerosLike(xs[i]));
}

function differences(
  f: (inputs: Tensor[]) => Outputs,
  inputs: readonly Tensor[],
  index: number,
  eps: number,
): number[] {
  const base = inputs[index].dataSync<'float32'>();
  const outputsAt = (element: number, step: number): Float32Array[] => {
    const values: Float32Array[] = [];
    tidy(() => {
      const moved = Float32Array.from(base);
      moved[element] += step;
      const xs = [...inputs];
      xs[index] = tensor(moved, inputs[index].shape);
      values.push(...list(f(xs)).map((output) => Float32Array.from(output.dataSync())));
    });
    return values;
  };
  return Array.from(base, (_, element) => {
    const [far, near, minusNear, minusFar] = [2, 1, -1, -2].map((k) => outputsAt(element, k * eps));
    let total = 0;
    for (const [i, output] of near.entries()) {
      const weight = weights(output.length, i);
      for (const [j, value] of output.entries()) {
        total += weight[j] * (8 * (value - minusNear[i][j]) - (far[i][j] - minusFar[i][j]));
      }
    }
    return total / (12 * eps);
  });
}

/** Irregular numbers in [0.5, 1.5], so that errors cannot cancel. */
function weights(size: number, output: number): Float32Array {
  return Float32Array.from({ length: size }, (_, i) => 0.5 + (((i + 1) * 0.6180339887 + output * 0.3) % 1));
}

function list(outputs: Outputs): readonly Tensor[] {
  return Array.isArray(outputs) ? outputs : [outputs as Tensor];
}
