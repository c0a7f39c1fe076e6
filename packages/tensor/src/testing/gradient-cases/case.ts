import { add, dispose, grads, mul, sum, type Tensor, tensor, util } from '@tensorflow/tfjs-core';
import { type GradCheckOptions, gradCheck } from '../grad-check.ts';
import { expectNoLeak } from '../no-leak.ts';

export interface GradientCaseOptions extends GradCheckOptions {
  /** The `i`th number of the inputs. By default irregular, of both signs, 0.25 to 1.45 in magnitude. */
  readonly sample?: (i: number) => number;
}

/** A function and the shapes of its float32 inputs: `'2x3, 3, scalar'`. */
export type GradientCase = readonly [
  name: string,
  f: (...inputs: Tensor[]) => Tensor | readonly Tensor[],
  shapes: string,
  options?: GradientCaseOptions,
];

/** Cases by the kernel whose gradient they check. */
export type GradientCases = Readonly<Record<string, readonly GradientCase[]>>;

/** At least 0.04 apart within 30 neighbours: no ties, no kinks near. */
export const positive = (i: number): number => 0.25 + (((i + 1) * 0.6180339887) % 1) * 1.2;
const signed = (i: number): number => (i % 2 === 0 ? 1 : -1) * positive(i);

/**
 * Checks the gradients of first and second order of `f`, and that taking them leaves no tensors behind.
 *
 * What is differentiated is `y + y^2 / 2` of each output `y`, so that a linear `f` too gets a gradient from above that
 * depends on its inputs.
 * @throws NumericsError naming the input and the element whose gradient is wrong.
 */
export function checkGradientCase([, f, shapes, { sample = signed, ...options } = {}]: GradientCase): void {
  let next = 0;
  const inputs = parseShapes(shapes).map((shape) => {
    const values = Float32Array.from({ length: util.sizeFromShape(shape) }, () => sample(next++));
    return tensor(values, shape);
  });
  const curved = (...xs: Tensor[]): Tensor[] => [f(...xs)].flat().map((y) => add(y, mul(mul(y, y), 0.5)));
  gradCheck(curved, inputs, options);
  const total = (...xs: Tensor[]): Tensor =>
    curved(...xs)
      .map((y) => sum(y))
      .reduce((a, b) => add(a, b));
  expectNoLeak(() => grads(total)(inputs));
  dispose(inputs);
}

function parseShapes(shapes: string): number[][] {
  return shapes.split(', ').map((shape) => (shape === 'scalar' ? [] : shape.split('x').map(Number)));
}
