import { OrtBackend } from './backend.ts';
import { jit } from './jit.ts';
import { IN_JAVASCRIPT } from './kernel.ts';
import { kernels } from './kernels/index.ts';
import { register } from './register.ts';
import { nativeRuntime } from './session.ts';

export type { OrtMemory } from './backend.ts';
export { OrtBackend } from './backend.ts';
export { exportOnnx } from './export-onnx.ts';
export type { JitOptions, JitState } from './graphs.ts';
export { type Jitted, jit } from './jit.ts';
export type { PoolStats } from './pool.ts';
export { BACKEND_NAME } from './register.ts';
export { getThreads, setThreads } from './session.ts';
export { type DynamicAxis, type ExportOptions, toOnnx } from './to-onnx.ts';

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

/** Above `cpu` (1) and `wasm` (2), below what may be a discrete GPU (`webgpu`, 3). */
const PRIORITY = 2.5;

// `jit` of @ashlar/tensor finds it on the backend.
register(() => Object.assign(new OrtBackend(nativeRuntime()), { jit }), PRIORITY);
