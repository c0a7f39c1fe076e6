import { all, isFinite as isFiniteElementwise, type Tensor, tidy } from '@tensorflow/tfjs-core';
import { NumericsError } from './errors.ts';

/**
 * Checks that every element of every float tensor is finite.
 * @param what named in the message, for example `'gradient'`.
 * @throws NumericsError naming the first tensor with a NaN or an infinity, how many it has and where the first one is.
 */
export function checkFinite(tensors: Iterable<readonly [string, Tensor]>, what = 'tensor'): void {
  for (const [name, tensor] of tensors) {
    if (tensor.dtype !== 'float32' || isAllFinite(tensor)) continue;
    const values = tensor.dataSync<'float32'>();
    const first = values.findIndex((value) => !Number.isFinite(value));
    // A shader may take any number for finite or not: the values decide.
    if (first < 0) continue;
    const count = values.reduce((total, value) => total + (Number.isFinite(value) ? 0 : 1), 0);
    throw new NumericsError(
      `The ${what} '${name}' [${tensor.shape}] has ${count} of ${tensor.size} values that are not finite, ` +
        `the first (${values[first]}) at flat index ${first}.`,
    );
  }
}

/** Whether all elements are finite. */
export function isAllFinite(tensor: Tensor): boolean {
  return tidy(() => all(isFiniteElementwise(tensor)).dataSync()[0] === 1);
}
