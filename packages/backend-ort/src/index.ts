import { IN_JAVASCRIPT } from './kernel.ts';
import { kernels } from './kernels/index.ts';
import { register } from './register.ts';

export type { OrtMemory } from './backend.ts';
export { OrtBackend } from './backend.ts';
export { type DynamicAxis, type ExportOptions, exportOnnx, toOnnx } from './export-onnx.ts';
export { type JitOptions, type JitState, type Jitted, jit } from './jit.ts';
export type { PoolStats } from './pool.ts';
export { BACKEND_NAME } from './register.ts';
export { getThreads, setThreads } from './session.ts';

/** Names of the TensorFlow.js kernels that run in native code, from some tensor size on. */
export const nativeKernels: readonly string[] = kernels
  .filter(({ threshold }) => threshold !== IN_JAVASCRIPT)
  .map(({ name }) => name)
  .sort();

/** Names of the kernels that this backend computes in JavaScript, faster than the cpu backend. */
export const javascriptKernels: readonly string[] = kernels
  .filter(({ threshold }) => threshold === IN_JAVASCRIPT)
  .map(({ name }) => name)
  .sort();

register();
