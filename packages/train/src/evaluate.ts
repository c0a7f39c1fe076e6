import {
  type AnyModule,
  ConfigError,
  NumericsError,
  type Scalar,
  type Signals,
  scalar,
  stack,
  tidy,
} from '@ashlar/tensor';
import { type Batch, type BatchIterable, BatchStream } from './batches.ts';
import { saveModes } from './modes.ts';
import { signalObjective, type WeightedObjective } from './objectives.ts';

export interface EvaluateOptions<B extends Batch> {
  readonly model: AnyModule;
  /** From a batch to its signals (`logits`, `labels` …). Runs inside a `tidy`. */
  readonly forward: (batch: B) => Signals;
  /** Default: the signal `loss`. */
  readonly objective?: WeightedObjective;
  /** One pass over them is one evaluation. */
  readonly batches: BatchIterable<B>;
  /** More means over all batches, each weighted as the loss is. */
  readonly metrics?: Readonly<Record<string, (signals: Signals) => Scalar>>;
}

export interface Evaluation {
  /** Mean loss, each batch weighted by the terms it averages over (labels that count). */
  readonly loss: number;
  readonly metrics: Record<string, number>;
  /** The sum of the batches' weights: labels that count, or batches. */
  readonly weight: number;
}

/**
 * Evaluates a model in evaluation mode, whatever mode it is in, and leaves it in that.
 * @throws ConfigError if there is no batch with a label that counts; NumericsError if the loss is not finite.
 */
export async function evaluate<B extends Batch>(options: EvaluateOptions<B>): Promise<Evaluation> {
  const { model, forward, objective = signalObjective(), batches, metrics = {} } = options;
  const names = Object.keys(metrics);
  const sums = new Array<number>(1 + names.length).fill(0);
  let total = 0;
  const stream = new BatchStream<B>(batches, 1);
  const restoreModes = saveModes(model);
  model.eval();
  try {
    for (let batch = await stream.next(); batch !== undefined; batch = await stream.next()) {
      const current = batch;
      const result = tidy(() => {
        const signals = forward(current);
        const weight = objective.weight?.(signals) ?? scalar(1);
        return stack([weight, objective.compute(signals), ...names.map((name) => metrics[name](signals))]);
      });
      stream.release(batch);
      const [weight, ...means] = await result.data();
      result.dispose();
      // A batch of ignored labels alone has a mean of 0 / 0.
      if (weight === 0) continue;
      means.forEach((mean, i) => {
        sums[i] += weight * mean;
      });
      total += weight;
    }
  } finally {
    restoreModes();
    await stream.close();
  }
  if (total === 0) throw new ConfigError('The evaluation batches have no label that counts.');
  const [loss, ...means] = sums.map((value) => value / total);
  if (!Number.isFinite(loss)) throw new NumericsError(`The evaluation loss is ${loss}.`);
  return { loss, metrics: Object.fromEntries(names.map((name, i) => [name, means[i]])), weight: total };
}
