export {
  type AlgorithmicSampling,
  type AlgorithmicTask,
  type AlgorithmicTaskOptions,
  algorithmicTargets,
  algorithmicTask,
  maskedMse,
} from './algorithmic-tasks.ts';
export { type TrainBpeOptions, trainBpe } from './bpe-trainer.ts';
export { type EvaluationBatches, type EvaluationBatchesOptions, evaluationBatches } from './evaluation-batches.ts';
export {
  exactMatchByLength,
  extractAnswer,
  LENGTH_TASKS,
  type LengthExample,
  type LengthProblem,
  type LengthTaskInstances,
  type LengthTaskName,
  type LengthTaskOptions,
  lengthsOf,
  lengthTask,
  writeProblem,
} from './length-tasks/length-task.ts';
export {
  SCRATCHPAD_PARTS,
  type Scratchpad,
  type ScratchpadPart,
  type ScratchpadStep,
} from './length-tasks/scratchpad.ts';
export type { LengthTask } from './length-tasks/task.ts';
export { loadTokenizer } from './load-tokenizer.ts';
export { type NeedleOptions, type NeedleTask, needleTask } from './needle-task.ts';
export { type PackOptions, packTokens, type Tokens } from './pack-tokens.ts';
export { type ShortestPathOptions, shortestPathTask, upperTriangleMse } from './shortest-path-task.ts';
export { type Split, type SplitOptions, splitDocuments } from './split-documents.ts';
export type { StreamDecoder } from './stream-decoder.ts';
export { readText, streamText, type TextDocument } from './text.ts';
export {
  THREE_CELL_TASKS,
  type ThreeCellDataset,
  type ThreeCellOptions,
  type ThreeCells,
  threeCellDataset,
  threeCellLabels,
  threeCellScores,
} from './three-cell.ts';
export { type TokenBatch, TokenBatches, type TokenBatchesOptions, type TokenBatchesState } from './token-batches.ts';
export { type DecodeOptions, type EncodeOptions, Tokenizer } from './tokenizer.ts';
export type { AddedToken, BpeTokenizerJson, TokenizerConfig, TokenizerJson } from './tokenizer-json.ts';
