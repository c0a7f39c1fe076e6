import type { Kernel } from '../kernel.ts';
import { binaryKernels } from './binary.ts';
import { convolutionKernels } from './convolution.ts';
import { imageKernels } from './image.ts';
import { indexingKernels } from './indexing.ts';
import { matmulKernels } from './matmul.ts';
import { reductionKernels } from './reduction.ts';
import { rotaryKernels } from './rotary.ts';
import { shapeKernels } from './shape.ts';
import { unaryKernels } from './unary.ts';

/** Every kernel that runs natively. */
export const kernels: readonly Kernel[] = [
  ...unaryKernels,
  ...binaryKernels,
  ...matmulKernels,
  ...reductionKernels,
  ...shapeKernels,
  ...indexingKernels,
  ...convolutionKernels,
  ...imageKernels,
  ...rotaryKernels,
];
