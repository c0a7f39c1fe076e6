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
export { maskedSinusoidal2d } from './masked-sinusoidal-2d.ts';
export * from './nope.ts';
export * from './position-forest.ts';
export * from './positional-scores.ts';
export { ReRope, type ReRopeOptions } from './re-rope.ts';
export type { RegionalRopeOptions } from './regional-rope.ts';
export * from './rope.ts';
export * from './rope-config.ts';
export { type RopeFrequencies, type RopeScaling, ropeFrequencies } from './rope-scaling.ts';
export { SelfExtend } from './self-extend.ts';
export { Sinusoidal, type SinusoidalLayout, type SinusoidalOptions, sinusoidalTable } from './sinusoidal.ts';
export * from './sinusoidal-2d.ts';
export * from './t5-relative-bias.ts';
