/** The first event. */
export interface StartEvent {
  readonly type: 'start';
  /** Steps done already: 0, or those of the checkpoint that the run continues. */
  readonly step: number;
  /** Values in all parameters of the model. */
  readonly parameters: number;
  /** Values in the parameters that train. */
  readonly trainable: number;
  /** The step at which the run ends; null where only the data can tell. */
  readonly totalSteps: number | null;
  /** The checkpoint that the run continues. */
  readonly resumedFrom?: string;
}

/** After each update of the parameters. */
export interface StepEvent {
  readonly type: 'step';
  /** Updates done, this one included. */
  readonly step: number;
  /** Passes over the data completed. */
  readonly epoch: number;
  /** Mean loss of the step's batches, before the update. */
  readonly loss: number;
  /** The rate of this update, where the optimizer has one. */
  readonly learningRate?: number;
  /** Euclidean norm of all gradients as one vector, before any clipping. */
  readonly gradNorm: number;
  /** Labels per second, where the objective counts them. */
  readonly tokensPerSecond?: number;
  /** Wall-clock seconds that the step took. */
  readonly seconds: number;
}

export interface EvaluationEvent {
  readonly type: 'evaluation';
  readonly step: number;
  /** Mean loss over all labels of the evaluation batches. */
  readonly loss: number;
  /** `e^loss`; absent where that is beyond float64. */
  readonly perplexity?: number;
  readonly metrics: Readonly<Record<string, number>>;
  /** The lowest loss so far, this one included; only a loss lower by more than `minDelta` replaces it. */
  readonly best: number;
  /** Whether this evaluation is the best so far. */
  readonly improved: boolean;
  /** Wall-clock seconds that it took. */
  readonly seconds: number;
}

export interface CheckpointEvent {
  readonly type: 'checkpoint';
  readonly step: number;
  /** The checkpoint's folder. */
  readonly path: string;
}

/** Something that the run could mend, such as a damaged checkpoint that it passed over. */
export interface WarningEvent {
  readonly type: 'warning';
  readonly step: number;
  readonly message: string;
}

export interface StoppedEvent {
  readonly type: 'stopped';
  readonly step: number;
  readonly reason: 'finished' | 'early-stopping' | 'cancelled';
}

/** The last event. */
export interface EndEvent {
  readonly type: 'end';
  readonly step: number;
  /** Loss of the last step; absent where this run did none. */
  readonly loss?: number;
  /** Lowest evaluation loss. */
  readonly best?: number;
  /** Wall-clock seconds of this run, without what came before a resume. */
  readonly seconds: number;
  /** Peak resident memory of the process; Node only. */
  readonly peakMemoryBytes?: number;
}

/** What training reports: plain JSON, in the order in which it happens. */
export type TrainEvent =
  | StartEvent
  | StepEvent
  | EvaluationEvent
  | CheckpointEvent
  | WarningEvent
  | StoppedEvent
  | EndEvent;
