import './gradients.ts';

// Everything of TensorFlow.js; a name exported below it replaces tfjs's own of the same name.
export * from '@tensorflow/tfjs-core';
export * from './check-finite.ts';
export * from './check-options.ts';
export * from './errors.ts';
export {
  canJit,
  currentTrace,
  type JitOptions,
  type JitState,
  type Jitted,
  jit,
  jitAsync,
  moduleState,
  parameterState,
} from './jit.ts';
export * from './linalg/index.ts';
export * from './loss-and-grads.ts';
export * from './make-folder.ts';
export * from './module.ts';
export { nodeModule } from './node-module.ts';
export { odeSolve } from './ode-solve.ts';
export { oncePerPass } from './once-per-pass.ts';
export { batchNorm } from './ops/batch-norm.ts';
export { type CrossEntropyOptions, crossEntropy } from './ops/cross-entropy.ts';
export { einsum } from './ops/einsum.ts';
export { flip } from './ops/flip.ts';
export { fused } from './ops/fused.ts';
export { gatherRows } from './ops/gather-rows.ts';
export { gelu } from './ops/gelu.ts';
export { l2Normalize } from './ops/l2-normalize.ts';
export { logSoftmax } from './ops/log-softmax.ts';
export { matMul } from './ops/mat-mul.ts';
export { noGrad } from './ops/no-grad.ts';
export { repeatInterleave } from './ops/repeat-interleave.ts';
export { roll } from './ops/roll.ts';
export { rotaryEmbedding } from './ops/rotary-embedding.ts';
export { scatterRowsAdd } from './ops/scatter-rows-add.ts';
export { silu } from './ops/silu.ts';
export { softmax } from './ops/softmax.ts';
export { stopGradient } from './ops/stop-gradient.ts';
export { straightThrough } from './ops/straight-through.ts';
export { takeAlongAxis } from './ops/take-along-axis.ts';
export { topK, topKMask } from './ops/top-k.ts';
export { tril, trilMask, triu, triuMask } from './ops/tril.ts';
export * from './parameter.ts';
export { quote } from './quote.ts';
export * from './rng.ts';
export * from './safetensors/index.ts';
export * from './seams.ts';
export { setBackend } from './set-backend.ts';
export * from './state-dict.ts';
export { type FileChunks, writeFileAtomic } from './write-file-atomic.ts';
