import { reverse, type Tensor } from '@tensorflow/tfjs-core';

/** Reverses the order along `axes` (default all): `torch.flip`. */
export function flip<T extends Tensor>(x: T, axes?: number | number[]): T {
  return reverse(x, axes);
}
