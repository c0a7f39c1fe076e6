import { ones, reshape, scatterND, stack, type Tensor, tensor1d, tidy, topk } from '@tensorflow/tfjs-core';
import { ConfigError } from '../errors.ts';
import { noGrad } from './no-grad.ts';
import { takeAlongAxis } from './take-along-axis.ts';

/**
 * The `k` largest values along the last axis, largest first, and their int32 indices. Of equal values the first ones are
 * taken. The values are differentiable, the indices constants.
 * @throws ConfigError unless `k` is an integer from 0 to the size of the last axis.
 */
export function topK(x: Tensor, k: number): { values: Tensor; indices: Tensor } {
  checkK(x, k, 'topK');
  return tidy(() => {
    const indices = largest(x, k);
    return { values: takeAlongAxis(x, indices), indices };
  });
}

/**
 * 1 at the `k` largest elements along the last axis, 0 elsewhere: a constant for differentiation. Exactly `k` ones, also
 * where values are equal.
 * @returns float32 of `x`'s shape.
 * @throws ConfigError unless `k` is an integer from 0 to the size of the last axis.
 */
export function topKMask(x: Tensor, k: number): Tensor {
  checkK(x, k, 'topKMask');
  return noGrad(() => {
    const columns = x.shape[x.rank - 1];
    const rows = x.size / columns;
    const row = tensor1d(
      Int32Array.from({ length: rows * k }, (_, i) => Math.floor(i / k)),
      'int32',
    );
    const places = stack([row, reshape(largest(x, k), [-1])], 1);
    return reshape(scatterND(places, ones([rows * k]), [rows, columns]), x.shape);
  });
}

function largest(x: Tensor, k: number): Tensor {
  return noGrad(() => topk(x, k).indices);
}

function checkK(x: Tensor, k: number, what: string): void {
  const size = x.shape[x.rank - 1] ?? 0;
  if (!Number.isInteger(k) || k < 0 || k > size) {
    throw new ConfigError(`${what}: k is ${k}; it may be an integer from 0 to ${size}, the size of the last axis.`);
  }
}
