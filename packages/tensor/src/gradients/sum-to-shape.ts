import { backend_util, reshape, sum, type Tensor, util } from '@tensorflow/tfjs-core';

/** Sums `x` over the axes along which `shape` was broadcast to `x.shape`: the adjoint of broadcasting. */
export function sumToShape(x: Tensor, shape: number[]): Tensor {
  if (util.arraysEqual(x.shape, shape)) return x;
  const axes = backend_util.getReductionAxes(shape, x.shape);
  return reshape(axes.length > 0 ? sum(x, axes) : x, shape);
}
