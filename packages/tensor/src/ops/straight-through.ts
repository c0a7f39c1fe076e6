import { clone, customGrad, type Tensor, util } from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.ts';

/**
 * The straight-through estimator: has the value of `forwardValue` and the gradient of `x`, as if rounding, sampling or
 * binarizing `x` were the identity. `forwardValue` gets no gradient.
 *
 * Source: Bengio, Léonard and Courville, "Estimating or propagating gradients through stochastic neurons" (2013,
 * arXiv 1308.3432).
 * @throws ShapeError if the shapes differ.
 */
export function straightThrough(forwardValue: Tensor, x: Tensor): Tensor {
  if (!util.arraysEqual(forwardValue.shape, x.shape)) {
    throw new ShapeError(`straightThrough needs two equal shapes, not [${forwardValue.shape}] and [${x.shape}].`);
  }
  return customGrad(() => ({ value: clone(forwardValue), gradFunc: (dy: Tensor) => clone(dy) }))(x);
}
