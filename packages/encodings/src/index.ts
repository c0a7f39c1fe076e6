export * from './alibi.ts';
export { type AttentionDistanceKind, attentionDistance } from './attention-distance.ts';
export { pixelCoordinates, type ReadOptions, readBasisField, readTriplane, type Triplane } from './basis-fields.ts';
export { Clex, type ClexOptions } from './clex.ts';
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
export { FourierFeatures } from './fourier-features.ts';
export { harmonicEmbedding } from './harmonic-embedding.ts';
export { type Extrapolation, type Inspection, type InspectOptions, inspect } from './inspect.ts';
export * from './learned-absolute.ts';
export { Loope, type LoopeOptions } from './loope.ts';
export { maskedSinusoidal2d } from './masked-sinusoidal-2d.ts';
export { type LrpeForm, MdLrpe, type MdLrpeOptions } from './md-lrpe.ts';
export { MdTpe, Tpe, type TpeOptions } from './md-tpe.ts';
export { meanReciprocalRank } from './mean-reciprocal-rank.ts';
export * from './nope.ts';
export { type Cell, gilbertOrder, gilbertPath, hilbertOrder, rasterOrder, zigzagOrder } from './patch-orders.ts';
export {
  type DigitMaskOptions,
  digitAttentionMask,
  type PositionDigitsOptions,
  positionDigits,
  positionGrid,
} from './position-digits.ts';
export * from './position-forest.ts';
export { PositionInjection, type PositionInjectionOptions } from './position-injection.ts';
export * from './positional-scores.ts';
export { type CoordinateGrid, distinctCells, quantizeCoordinates } from './quantize-coordinates.ts';
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
export { type StructuralIntegrity, structuralIntegrity } from './structural-integrity.ts';
export * from './t5-relative-bias.ts';
export { ColumnEmbedding, type VisualPositions, type VisualScheme, visualPositions } from './visual-positions.ts';
