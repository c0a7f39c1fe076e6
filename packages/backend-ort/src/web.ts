/** What a browser gets: kernels in JavaScript, and whole functions in ONNX Runtime's WebAssembly or WebGPU. */
import { OrtBackend } from './backend.ts';
import { jitAsync } from './jit-async.ts';
import { register } from './register.ts';

export { OrtBackend } from './backend.ts';
export type { JitOptions, JitState } from './graphs.ts';
export { type JittedAsync, jitAsync, setExecutionProviders } from './jit-async.ts';
export { BACKEND_NAME } from './register.ts';
export { type DynamicAxis, type ExportOptions, toOnnx } from './to-onnx.ts';

/** Below `cpu` (1), `webgl` and `webgpu`: without jit it is `cpu`. */
const PRIORITY = 0.5;

// `jitAsync` of @ashlar/tensor finds it on the backend.
register(() => Object.assign(new OrtBackend(), { jitAsync }), PRIORITY);
