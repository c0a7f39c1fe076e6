import { argMax, cast, div, equal, logicalAnd, notEqual, type Scalar, type Signals, sum, tidy } from '@ashlar/tensor';
import { signal } from './objectives.ts';

/** Perplexity of a mean cross-entropy in nats: `e^loss`. */
export function perplexity(loss: number): number {
  return Math.exp(loss);
}

/**
 * The share of labels that have the largest logit, from the signals `logits` `[..., classes]` and `labels` `[...]`.
 * Labels of -100 count for nothing. The caller disposes of the scalar.
 */
export function accuracy(signals: Signals): Scalar {
  return tidy(() => {
    const labels = signal(signals, 'labels');
    const counts = notEqual(labels, -100);
    const right = logicalAnd(equal(argMax(signal(signals, 'logits'), -1), labels), counts);
    return div(sum(cast(right, 'float32')), sum(cast(counts, 'float32')));
  });
}
