export * from './batches.ts';
export * from './checkpoint.ts';
export type { EarlyStoppingOptions } from './early-stopping.ts';
export * from './evaluate.ts';
export * from './events.ts';
export type { Json } from './json.ts';
export * from './jsonl.ts';
export * from './memory-usage.ts';
export * from './metrics.ts';
export {
  crossEntropyObjective,
  encodingObjective,
  signalObjective,
  sumObjectives,
  type WeightedObjective,
} from './objectives.ts';
export type {
  Callback,
  CheckpointOptions,
  EvaluationOptions,
  GradientFunction,
  TrainOptions,
} from './options.ts';
export * from './progress.ts';
export * from './train.ts';
