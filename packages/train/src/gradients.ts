import { add, dispose, disposeMap, mul, NumericsError, type Tensor, tidy } from '@ashlar/tensor';
import type { Batch, BatchStream } from './batches.ts';
import type { LossAndGrads } from './step-functions.ts';

export interface StepGradients {
  /** Mean loss over the micro-batches. */
  readonly loss: number;
  /** Its gradients; the caller disposes of them. */
  readonly grads: Map<string, Tensor>;
  /** The sum of the micro-batches' weights. */
  readonly weight: number;
}

export interface GradientsOptions<B extends Batch> {
  readonly gradients: (batch: B) => Promise<LossAndGrads>;
  readonly stream: BatchStream<B>;
  readonly microBatches: number;
  /** Makes the error for a loss that is not finite, while the batch is still there. */
  readonly diagnose: (loss: number, batch: B) => NumericsError;
}

/**
 * Mean loss and gradients over the next micro-batches, each weighted by the terms that its own mean is over, which makes
 * them those of one batch of them all. Undefined when the data is over.
 */
export async function stepGradients<B extends Batch>(options: GradientsOptions<B>): Promise<StepGradients | undefined> {
  const { gradients, stream, microBatches, diagnose } = options;
  let taken = 0;
  let weightedLoss = 0;
  let total = 0;
  let sum: Map<string, Tensor> | undefined;
  try {
    for (; taken < microBatches; taken++) {
      const batch = await stream.next();
      if (batch === undefined) break;
      try {
        const { loss, weight, grads } = await weighedGradients(gradients, batch);
        if (weight === 0) {
          // Ignored labels alone: a mean of 0 / 0 that has no part in the step's.
          disposeMap(grads);
          continue;
        }
        if (!Number.isFinite(loss)) {
          disposeMap(grads);
          throw diagnose(loss, batch);
        }
        weightedLoss += weight * loss;
        total += weight;
        sum = microBatches === 1 ? grads : accumulate(sum, grads, weight);
      } finally {
        stream.release(batch);
      }
    }
    if (taken === 0) return undefined;
    if (sum === undefined) throw new NumericsError('No label of this step counts, so its mean loss is 0 / 0.');
    const grads = microBatches === 1 ? sum : scaled(sum, 1 / total);
    return { loss: weightedLoss / total, grads, weight: total };
  } catch (error) {
    if (sum !== undefined) disposeMap(sum);
    throw error;
  }
}

async function weighedGradients<B extends Batch>(
  gradients: (batch: B) => Promise<LossAndGrads>,
  batch: B,
): Promise<{ loss: number; weight: number; grads: Map<string, Tensor> }> {
  const { loss, weight, grads } = await gradients(batch);
  const [[lossValue], [weightValue]] = await Promise.all([loss.data(), weight.data()]);
  dispose([loss, weight]);
  return { loss: lossValue, weight: weightValue, grads };
}

/** `sum + weight * grads`; both are given up. */
function accumulate(
  sum: Map<string, Tensor> | undefined,
  grads: Map<string, Tensor>,
  weight: number,
): Map<string, Tensor> {
  const weighted = scaled(grads, weight);
  if (sum === undefined) return weighted;
  const next = new Map([...sum].map(([name, tensor]) => [name, add(tensor, weighted.get(name)!)]));
  disposeMap(sum);
  disposeMap(weighted);
  return next;
}

/** `factor * tensors`; they are given up. */
function scaled(tensors: Map<string, Tensor>, factor: number): Map<string, Tensor> {
  const result = new Map([...tensors].map(([name, tensor]) => [name, tidy(() => mul(tensor, factor))]));
  disposeMap(tensors);
  return result;
}
