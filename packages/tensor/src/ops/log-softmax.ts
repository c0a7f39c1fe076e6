import { type Tensor, logSoftmax as tfLogSoftmax, tidy } from '@tensorflow/tfjs-core';
import { alongLastAxis, normalizeAxis } from './axis.ts';

/** `x - log(sum(exp(x)))` along `axis` (default the last; tfjs's own takes no other). */
export function logSoftmax<T extends Tensor>(x: T, axis = -1): T {
  return tidy(() => alongLastAxis(normalizeAxis(axis, x.rank, 'logSoftmax'), [x], ([x]) => tfLogSoftmax(x)) as T);
}
