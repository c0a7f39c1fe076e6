export * from './alibi.ts';
export * from './learned-absolute.ts';
export * from './nope.ts';
export * from './rope.ts';
export * from './rope-config.ts';
export { type RopeFrequencies, type RopeScaling, ropeFrequencies } from './rope-scaling.ts';
export { Sinusoidal, type SinusoidalLayout, type SinusoidalOptions, sinusoidalTable } from './sinusoidal.ts';
export * from './sinusoidal-2d.ts';
export * from './t5-relative-bias.ts';
