// Registers the gradient of every TensorFlow.js kernel. In bundlers this is tfjs-core's own module; in Node, whose
// resolver cannot read that module's extensionless imports, it is the copy that the build bundles into
// `dist/gradients.js` (tfjs keeps its engine and registries on `globalThis`, so a second copy of the code is harmless).
import { registerGradient } from '@tensorflow/tfjs-core';
import '#gradients'; // After tfjs-core itself, which alone registers the flags that registrations ask for.
import { mendGradients } from './gradients/backpropagate.ts';
import { batchMatMul } from './gradients/batch-mat-mul.ts';
import { broadcasting } from './gradients/broadcast.ts';
import { convolution } from './gradients/convolution.ts';
import { cumulative } from './gradients/cumulative.ts';
import { dilation } from './gradients/dilation.ts';
import { elu } from './gradients/elu.ts';
import { indexing } from './gradients/indexing.ts';
import { localResponseNormalization } from './gradients/local-response-normalization.ts';
import { pooling } from './gradients/pooling.ts';
import { pooling3d } from './gradients/pooling-3d.ts';
import { rearranging } from './gradients/rearranging.ts';
import { resize } from './gradients/resize.ts';
import { mendTape } from './gradients/tape.ts';
import { rotaryEmbeddingGradient } from './ops/rotary-embedding.ts';

mendTape();
mendGradients();

// What tfjs has wrong or lacks; each file says what.
const mended = [
  batchMatMul,
  ...broadcasting,
  ...convolution,
  ...cumulative,
  dilation,
  elu,
  ...indexing,
  localResponseNormalization,
  ...pooling,
  ...pooling3d,
  ...rearranging,
  ...resize,
];
for (const config of [...mended, rotaryEmbeddingGradient]) registerGradient(config);
