import { type Tensor, softmax as tfSoftmax, tidy } from '@tensorflow/tfjs-core';
import { alongLastAxis, normalizeAxis } from './axis.ts';

/** `exp(x) / sum(exp(x))` along `axis` (default the last; tfjs's own takes no other). */
export function softmax<T extends Tensor>(x: T, axis = -1): T {
  return tidy(() => alongLastAxis(normalizeAxis(axis, x.rank, 'softmax'), [x], ([x]) => tfSoftmax(x)) as T);
}
