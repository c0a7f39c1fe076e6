import { kernels } from './kernels/index.ts';
import { register } from './register.ts';

export type { OrtMemory } from './backend.ts';
export { OrtBackend } from './backend.ts';
export type { PoolStats } from './pool.ts';
export { BACKEND_NAME } from './register.ts';
export { getThreads, setThreads } from './session.ts';

/** Names of the TensorFlow.js kernels that run natively; the others run as in the cpu backend. */
export const nativeKernels: readonly string[] = kernels.map(({ name }) => name).sort();

register();
