import { clone, concat, slice, type Tensor, tidy } from '@tensorflow/tfjs-core';
import { ConfigError } from '../errors.ts';
import { normalizeAxis } from './axis.ts';

/**
 * Shifts along `axis`; what leaves at one end enters at the other: `out[i] = x[(i - shift) mod n]` (`torch.roll`).
 * @param axis default the last.
 */
export function roll<T extends Tensor>(x: T, shift: number, axis = -1): T {
  if (!Number.isInteger(shift)) throw new ConfigError(`roll: shift is ${shift}; it must be an integer.`);
  const along = normalizeAxis(axis, x.rank, 'roll');
  const size = x.shape[along];
  const cut = size === 0 ? 0 : ((-shift % size) + size) % size;
  if (cut === 0) return clone(x);
  const part = (from: number, count: number): Tensor => {
    const begin = x.shape.map((_, i) => (i === along ? from : 0));
    return slice(
      x as Tensor,
      begin,
      x.shape.map((full, i) => (i === along ? count : full)),
    );
  };
  return tidy(() => concat([part(cut, size - cut), part(0, cut)], along) as T);
}
