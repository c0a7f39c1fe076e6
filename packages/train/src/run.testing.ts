import { adamw, chain, clipByGlobalNorm, ParameterEma, warmupCosine } from '@ashlar/optim';
import { Buffer, clone, mul, type Objective, type Scalar, type Signals, type StateDict, scalar } from '@ashlar/tensor';
import type { Batch } from './batches.ts';
import { crossEntropyObjective, type TrainOptions } from './index.ts';
import { batchAt, Mlp, ShuffledBatches } from './mlp.testing.ts';

/** Cross-entropy times a factor that grows with every call: wrong as soon as its state is lost. */
class Growing implements Objective {
  readonly #factor: Buffer = new Buffer(scalar(1));
  readonly #inner: Objective = crossEntropyObjective();

  compute(signals: Signals): Scalar {
    this.#factor.assign(scalar(this.#factor.stored.dataSync()[0] + 0.01));
    return mul(this.#inner.compute(signals), this.#factor.stored);
  }

  stateDict(): StateDict {
    return new Map([['factor', this.#factor.stored]]);
  }

  loadStateDict(state: StateDict): void {
    this.#factor.assign(clone(state.get('factor')!));
  }
}

/** A run with everything that a checkpoint must hold: dropout, shuffling, accumulation, averages, state, patience. */
export function fullRun(folder: string, changes: Partial<TrainOptions<Batch>> = {}): TrainOptions<Batch> {
  const model = new Mlp({ seed: 3, p: 0.3 });
  return {
    model,
    forward: ({ x, labels }) => ({ logits: model.apply(x), labels }),
    objective: new Growing(),
    batches: new ShuffledBatches(7),
    optimizer: chain(
      clipByGlobalNorm(1),
      adamw({ learningRate: warmupCosine({ peak: 0.05, warmupSteps: 5, totalSteps: 60 }) }),
    ),
    steps: 40,
    accumulationSteps: 2,
    ema: new ParameterEma(model.trainableParameters(), { decay: 0.9 }),
    evaluate: { batches: [batchAt(900), batchAt(901)], everySteps: 4, objective: crossEntropyObjective() },
    earlyStopping: { patience: 50 },
    checkpoint: { folder, everySteps: 3 },
    resume: true,
    config: { seed: 3 },
    ...changes,
  };
}
