export { additiveRecurrence, type RecurrenceState } from './additive-recurrence.ts';
export { AttentionRefinement, keepSteps, type RefinementInput } from './attention-refinement.ts';
export { CoverageDecoder, type CoverageDecoderOptions, type CoverageInput } from './coverage-decoder.ts';
export {
  LightNetAttention,
  type LightNetAttentionOptions,
  type LightNetInput,
  type LightNetState,
} from './lightnet-attention.ts';
export { LightNetBlock } from './lightnet-block.ts';
export { type LinearAttentionOptions, linearAttention } from './linear-attention.ts';
export { oneScanAttention } from './one-scan-attention.ts';
export {
  type ImageMemory,
  type PosformerDecoderOptions,
  type PosformerSignals,
  PositionDecoder,
  posformerLoss,
  SymbolDecoder,
} from './posformer.ts';
export {
  identityPositions,
  PositionalAttention,
  type PositionalAttentionOptions,
  positionsForLength,
} from './positional-attention.ts';
export { PositionalTransformer, type PositionalTransformerOptions } from './positional-transformer.ts';
