import { add, concat, mul, split, sub, type Tensor } from '@ashlar/tensor';

/** Turns the pairs that lie along `axis`, of size 2, by angles whose cosines and sines broadcast to either half. */
export function rotatePairs(x: Tensor, axis: number, cosines: Tensor, sines: Tensor): Tensor {
  const [a, b] = split(x, 2, axis);
  return concat([sub(mul(a, cosines), mul(b, sines)), add(mul(b, cosines), mul(a, sines))], axis);
}
