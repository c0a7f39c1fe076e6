import { clone, type Tensor } from '@tensorflow/tfjs-core';
import { pauseTape } from '../gradients/tape.ts';

/**
 * `x` as a constant: the same value (and memory), through which no gradient flows (`Tensor.detach` of PyTorch). Backward
 * passes stop here at no cost.
 */
export function stopGradient<T extends Tensor>(x: T): T {
  return pauseTape(() => clone(x));
}
