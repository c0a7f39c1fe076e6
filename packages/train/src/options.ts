import type { ParameterEma } from '@ashlar/optim';
import {
  type AnyModule,
  ConfigError,
  checkNumber,
  type GradientTransformation,
  type Parameter,
  quote,
  type Rng,
  type Scalar,
  type Signals,
  type StateDict,
  type Tensor,
} from '@ashlar/tensor';
import type { Batch, BatchIterable, BatchSource } from './batches.ts';
import type { EarlyStoppingOptions } from './early-stopping.ts';
import type { TrainEvent } from './events.ts';
import type { Json } from './json.ts';
import type { WeightedObjective } from './objectives.ts';

/** Acts on the events of a run, before its consumer sees them: teachers, schedules, progressive selection. */
export interface Callback {
  onEvent(event: TrainEvent): void | Promise<void>;
  /** The tensors that checkpoints save; they stay the callback's own. */
  stateDict?(): StateDict;
  /** Copies saved tensors. */
  loadStateDict?(state: StateDict): void;
}

/**
 * Loss and gradients by name, as `lossAndGrads` of `@ashlar/tensor` gives them, which the caller disposes of; so does it of
 * further tensors in the result. It may run `loss` more than once.
 */
export type GradientFunction = (
  loss: () => Tensor,
  parameters: ReadonlyMap<string, Parameter>,
) => { loss: Scalar; grads: Map<string, Tensor> };

export interface EvaluationOptions<B extends Batch> {
  /** Held-out batches; one pass over them is one evaluation. */
  readonly batches: BatchIterable<B>;
  /** Steps from one evaluation to the next. Default: only at the end. */
  readonly everySteps?: number;
  /** Whether to evaluate before the first step. Default false. */
  readonly atStart?: boolean;
  /** Default: that of training. */
  readonly objective?: WeightedObjective;
  /** More means over all labels, by name, for example `{ accuracy }`. */
  readonly metrics?: Readonly<Record<string, (signals: Signals) => Scalar>>;
}

export interface CheckpointOptions {
  /** Where checkpoints go, as `step-000123` folders. */
  readonly folder: string;
  /** Steps from one checkpoint to the next. Default: only at the end. */
  readonly everySteps?: number;
  /** How many of the newest are kept. Default 2. */
  readonly keep?: number;
  /** Whether `model.safetensors` has the parameters that train (default; buffers are always in it) or all. */
  readonly parameters?: 'trainable' | 'all';
}

export interface TrainOptions<B extends Batch> {
  /** Its parameters with `requiresGrad` train. It stays the caller's. */
  readonly model: AnyModule;
  /** From a batch to its signals (`logits`, `labels` …). Runs inside a `tidy`, once per batch. */
  readonly forward: (batch: B) => Signals;
  /** From the signals to the loss. Default: the signal `loss`. */
  readonly objective?: WeightedObjective;
  readonly batches: BatchSource<B>;
  readonly optimizer: GradientTransformation;
  /** What differentiates. Default `lossAndGrads`; sharpness-aware methods such as `gladGradients` take its place. */
  readonly gradients?: GradientFunction;
  /** Updates after which training ends. One of `steps` and `epochs` is needed; the first to be reached counts. */
  readonly steps?: number;
  /** Passes over the batches after which training ends. */
  readonly epochs?: number;
  /** Batches whose gradients are averaged into one step. Default 1. */
  readonly accumulationSteps?: number;
  /**
   * Whether the step runs as native graphs (`jit` of `@ashlar/tensor`). `forward` and `objective` are then called once
   * for each combination of shapes, so that a plain number they read from elsewhere stays what it was; tensors of the
   * model and draws from generators are read anew. Default: where the backend can; what cannot be traced then runs
   * without, with a warning. `true` throws instead.
   */
  readonly jit?: boolean;
  readonly evaluate?: EvaluationOptions<B>;
  /** Needs `evaluate`. */
  readonly earlyStopping?: EarlyStoppingOptions;
  /** Updated after every step and swapped in for evaluations. It stays the caller's. */
  readonly ema?: ParameterEma;
  readonly callbacks?: readonly Callback[];
  /** Generators that checkpoints save, besides those that modules hold as properties. */
  readonly rngs?: Readonly<Record<string, Rng>>;
  /** Node only. */
  readonly checkpoint?: CheckpointOptions;
  /** Continues from the newest checkpoint in the folder, or begins where there is none. Default false. */
  readonly resume?: boolean;
  /** What describes the run (seed, data, model); a resumed one must have the same. */
  readonly config?: { readonly [key: string]: Json };
  /** Ends training after the step in progress, with a checkpoint. */
  readonly signal?: AbortSignal;
}

/** @throws ConfigError naming the first option that is not what it may be. */
export function checkTrainOptions<B extends Batch>(options: TrainOptions<B>): void {
  const { steps, epochs, accumulationSteps, evaluate, earlyStopping, checkpoint, resume } = options;
  if (options.model.trainableParameters().size === 0) {
    throw new ConfigError('The model has no parameter that trains; all of them are frozen.');
  }
  if (steps === undefined && epochs === undefined) {
    throw new ConfigError('steps and epochs are undefined; one of them must say when training ends.');
  }
  if (steps !== undefined && steps !== Infinity) checkNumber('steps', steps, { integer: true, min: 1 });
  if (epochs !== undefined && epochs !== Infinity) checkNumber('epochs', epochs, { integer: true, min: 1 });
  if (epochs !== undefined && typeof options.batches === 'function') {
    throw new ConfigError(`epochs is ${epochs}, but batches is a function, which has no epochs; use steps.`);
  }
  if (options.jit !== undefined && typeof options.jit !== 'boolean') {
    throw new ConfigError(`jit is ${quote(options.jit)}; it must be true or false.`);
  }
  if (accumulationSteps !== undefined) checkNumber('accumulationSteps', accumulationSteps, { integer: true, min: 1 });
  if (evaluate?.everySteps !== undefined)
    checkNumber('evaluate.everySteps', evaluate.everySteps, { integer: true, min: 1 });
  if (earlyStopping !== undefined) {
    checkNumber('earlyStopping.patience', earlyStopping.patience, { integer: true, min: 1 });
    const { minDelta = 0 } = earlyStopping;
    if (!(minDelta >= 0 && minDelta < Infinity)) {
      throw new ConfigError(`earlyStopping.minDelta is ${minDelta}; it must be a finite number >= 0.`);
    }
    if (evaluate?.everySteps === undefined) {
      throw new ConfigError('earlyStopping needs evaluations: give evaluate.everySteps.');
    }
  }
  if (checkpoint !== undefined) checkCheckpointOptions(checkpoint);
  if (resume && checkpoint === undefined) throw new ConfigError('resume is true; it needs checkpoint.folder.');
}

function checkCheckpointOptions({ folder, everySteps, keep, parameters = 'trainable' }: CheckpointOptions): void {
  if (typeof folder !== 'string' || folder === '') {
    throw new ConfigError(`checkpoint.folder is ${quote(folder)}; it must be the path of a folder.`);
  }
  if (everySteps !== undefined) checkNumber('checkpoint.everySteps', everySteps, { integer: true, min: 1 });
  if (keep !== undefined) checkNumber('checkpoint.keep', keep, { integer: true, min: 1 });
  if (parameters !== 'trainable' && parameters !== 'all') {
    throw new ConfigError(`checkpoint.parameters is '${parameters}'; it must be 'trainable' or 'all'.`);
  }
}
