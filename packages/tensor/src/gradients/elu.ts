import { add, type GradConfig, minimum, mul, type Tensor } from '@tensorflow/tfjs-core';

/** tfjs's uses the kernel EluGrad, which has no gradient itself. */
export const elu: GradConfig = {
  kernelName: 'Elu',
  outputsToSave: [true],
  gradFunc: (dy, [y]) => ({ x: () => mul(dy as Tensor, add(minimum(y, 0), 1)) }),
};
