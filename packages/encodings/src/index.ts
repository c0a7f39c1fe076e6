export * from './alibi.ts';
export {
  Dpe,
  type DpeOptions,
  detectScales,
  farKeyPlace,
  farQueryPlace,
  keyDimensionScores,
  selectKeyDimensions,
} from './dpe.ts';
export { DualChunk } from './dual-chunk.ts';
export * from './learned-absolute.ts';
export * from './nope.ts';
export {
  type DigitMaskOptions,
  digitAttentionMask,
  type PositionDigitsOptions,
  positionDigits,
  positionGrid,
} from './position-digits.ts';
export { PositionInjection, type PositionInjectionOptions } from './position-injection.ts';
export { ReRope, type ReRopeOptions } from './re-rope.ts';
export type { RegionalRopeOptions } from './regional-rope.ts';
export * from './rope.ts';
export * from './rope-config.ts';
export { type RopeFrequencies, type RopeScaling, ropeFrequencies } from './rope-scaling.ts';
export { SelfExtend } from './self-extend.ts';
export { SeqPe, type SeqPeOptions, type SeqPeTrainingOptions } from './seqpe.ts';
export {
  type ContrastivePositionLossOptions,
  contrastivePositionLoss,
  type PositionTransferLossOptions,
  positionTransferLoss,
} from './seqpe-losses.ts';
export {
  type ContrastiveBatch,
  type ContrastiveBatchOptions,
  contrastiveBatch,
  nearestCandidate,
  type Place,
  type PositionSpace,
  type TransferBatch,
  type TransferBatchOptions,
  transferBatch,
  windowStarts,
} from './seqpe-samplers.ts';
export { SequentialPositionEncoder, type SequentialPositionEncoderOptions } from './sequential-position-encoder.ts';
export { Sinusoidal, type SinusoidalLayout, type SinusoidalOptions, sinusoidalTable } from './sinusoidal.ts';
export * from './sinusoidal-2d.ts';
export * from './t5-relative-bias.ts';
