import { binary } from './binary.ts';
import type { GradientCase, GradientCases } from './case.ts';
import { composite } from './composite.ts';
import { convolution } from './convolution.ts';
import { fused } from './fused.ts';
import { image } from './image.ts';
import { indexing } from './indexing.ts';
import { matMul } from './mat-mul.ts';
import { reduction } from './reduction.ts';
import { shape } from './shape.ts';
import { unary } from './unary.ts';

export { checkGradientCase, type GradientCase, type GradientCaseOptions, type GradientCases } from './case.ts';

/** At least one function for each kernel that has a gradient: what a backend must pass on which to train. */
export const gradientCases: GradientCases = {
  ...unary,
  ...binary,
  ...reduction,
  ...shape,
  ...indexing,
  ...matMul,
  ...convolution,
  ...image,
};

/** The same for operations that differentiate themselves, or are made of several kernels. */
export const customGradientCases: readonly GradientCase[] = [...fused, ...composite];
