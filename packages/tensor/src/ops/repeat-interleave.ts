import { reshape, type Tensor, tidy, tile } from '@tensorflow/tfjs-core';
import { ConfigError } from '../errors.ts';
import { normalizeAxis } from './axis.ts';

/**
 * Repeats each entry along `axis`: `[a, b]` by 2 is `[a, a, b, b]` (`torch.repeat_interleave`).
 * @throws ConfigError unless `repeats` is a positive integer.
 */
export function repeatInterleave(x: Tensor, repeats: number, axis: number): Tensor {
  if (!Number.isInteger(repeats) || repeats < 1) {
    throw new ConfigError(`repeatInterleave: repeats is ${repeats}; it must be a positive integer.`);
  }
  const along = normalizeAxis(axis, x.rank, 'repeatInterleave');
  const outer = x.shape.slice(0, along).reduce((a, b) => a * b, 1);
  const inner = x.shape.slice(along + 1).reduce((a, b) => a * b, 1);
  const size = x.shape[along];
  return tidy(() =>
    reshape(
      tile(reshape(x, [outer * size, 1, inner]), [1, repeats, 1]),
      x.shape.map((full, i) => (i === along ? full * repeats : full)),
    ),
  );
}
