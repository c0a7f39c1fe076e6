import { type Tensor, transpose } from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.ts';

/** `axis` counted from the front. @throws ShapeError if `x` has no such axis. */
export function normalizeAxis(axis: number, rank: number, what: string): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
    throw new ShapeError(`${what}: axis ${axis} of a tensor of rank ${rank}; it may be ${-rank} to ${rank - 1}.`);
  }
  return axis < 0 ? axis + rank : axis;
}

/** Runs `f`, which works along the last axis and keeps the rank, along `axis` of all `tensors`. */
export function alongLastAxis(axis: number, tensors: readonly Tensor[], f: (tensors: Tensor[]) => Tensor): Tensor {
  const { rank } = tensors[0];
  if (axis === rank - 1) return f([...tensors]);
  // Swapping two axes is its own inverse.
  const swap = Array.from({ length: rank }, (_, i) => (i === axis ? rank - 1 : i === rank - 1 ? axis : i));
  return transpose(f(tensors.map((tensor) => transpose(tensor, swap))), swap);
}
