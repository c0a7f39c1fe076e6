import {
  cast,
  type GradConfig,
  greater,
  greaterEqual,
  less,
  lessEqual,
  mul,
  sub,
  type Tensor,
} from '@tensorflow/tfjs-core';
import { sumToShape } from './sum-to-shape.ts';

/** A gradient of a binary operation with broadcasting, from its two partial derivatives. */
function binary(
  kernelName: string,
  partialA: (a: Tensor, b: Tensor) => Tensor,
  partialB: (a: Tensor, b: Tensor) => Tensor,
): GradConfig {
  return {
    kernelName,
    inputsToSave: ['a', 'b'],
    gradFunc: (dy, [a, b]) => ({
      a: () => sumToShape(mul(dy as Tensor, partialA(a, b)), a.shape),
      b: () => sumToShape(mul(dy as Tensor, partialB(a, b)), b.shape),
    }),
  };
}

const as01 = (condition: Tensor): Tensor => cast(condition, 'float32');

/** tfjs forgets to sum over broadcast axes in these three. */
export const broadcasting: GradConfig[] = [
  binary(
    'SquaredDifference',
    (a, b) => mul(sub(a, b), 2),
    (a, b) => mul(sub(b, a), 2),
  ),
  binary(
    'Maximum',
    (a, b) => as01(greaterEqual(a, b)),
    (a, b) => as01(less(a, b)),
  ),
  binary(
    'Minimum',
    (a, b) => as01(lessEqual(a, b)),
    (a, b) => as01(greater(a, b)),
  ),
];
