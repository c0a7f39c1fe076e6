import type { TensorContainer } from '@tensorflow/tfjs-core';
import { tidy } from '@tensorflow/tfjs-core';
import { pauseTape } from '../gradients/tape.ts';

/**
 * Runs `f` as a constant: gradients that are being taken around it see neither its operations nor keep their inputs
 * (`torch.no_grad`). Gradients taken inside `f` work as always. Like `tidy`, it disposes of all but the result.
 */
export function noGrad<T extends TensorContainer>(f: () => T): T {
  return pauseTape(() => tidy(f));
}
