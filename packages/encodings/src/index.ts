export * from './alibi.ts';
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
export { maskedSinusoidal2d } from './masked-sinusoidal-2d.ts';
export { type LrpeForm, MdLrpe, type MdLrpeOptions } from './md-lrpe.ts';
export { MdTpe, Tpe, type TpeOptions } from './md-tpe.ts';
export * from './nope.ts';
export * from './position-forest.ts';
export * from './positional-scores.ts';
export { type CoordinateGrid, distinctCells, quantizeCoordinates } from './quantize-coordinates.ts';
export { ReRope, type ReRopeOptions } from './re-rope.ts';
export type { RegionalRopeOptions } from './regional-rope.ts';
export * from './rope.ts';
export * from './rope-config.ts';
export { type RopeFrequencies, type RopeScaling, ropeFrequencies } from './rope-scaling.ts';
export { SelfExtend } from './self-extend.ts';
export { Sinusoidal, type SinusoidalLayout, type SinusoidalOptions, sinusoidalTable } from './sinusoidal.ts';
export * from './sinusoidal-2d.ts';
export * from './t5-relative-bias.ts';
export { ColumnEmbedding, type VisualPositions, type VisualScheme, visualPositions } from './visual-positions.ts';
