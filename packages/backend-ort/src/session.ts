import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import type { ElementType } from './onnx.ts';

/**
 * The one place that touches ONNX Runtime. Its public API wraps every run in a promise, while TensorFlow.js kernels
 * are synchronous, so the native binding beneath it is imported directly; the version is pinned for that reason.
 */

/** A tensor as the binding takes it: it reads exactly these properties, so no class instance is needed. */
export interface NativeTensor {
  type: ElementType;
  data: Float32Array | Int32Array | Uint8Array | BigInt64Array;
  dims: readonly number[];
  location: 'cpu';
}

type Tensors = Record<string, NativeTensor>;

/** A loaded graph. `run` reads the feeds in place and writes each result into the tensor given for it in `fetches`. */
export interface NativeSession {
  loadModel(buffer: ArrayBuffer, offset: number, length: number, options: object): void;
  run(feeds: Tensors, fetches: Tensors, options: object): unknown;
  dispose(): void;
}

interface Binding {
  InferenceSession: new () => NativeSession;
}

let binding: Binding | undefined;

/**
 * Load the native library; done once per thread, on first use.
 * @throws Error when onnxruntime-node is not installed, has moved its binding, or has no library for this platform.
 */
export function loadBinding(): Binding {
  if (binding) return binding;
  const require = createRequire(import.meta.url);
  let loaded: { binding?: Binding; initOrt?: () => void };
  try {
    loaded = require('onnxruntime-node/dist/binding');
  } catch (cause) {
    throw new Error(
      `@ashlar/backend-ort: ONNX Runtime's native library did not load on ${process.platform}-${process.arch}. ` +
        "Call tf.setBackend('cpu') instead: slower, the same results. " +
        `Cause: ${cause instanceof Error ? cause.message : cause}`,
      { cause },
    );
  }
  if (typeof loaded.initOrt !== 'function' || typeof loaded.binding?.InferenceSession !== 'function') {
    throw new Error(
      '@ashlar/backend-ort: this version of onnxruntime-node has moved its native binding. ' +
        "Install the version named in @ashlar/backend-ort's package.json, or call tf.setBackend('cpu').",
    );
  }
  loaded.initOrt();
  binding = loaded.binding;
  return binding;
}

let threads: number | undefined;

/** How many threads a kernel may use: `setThreads`, else `ASHLAR_THREADS`, else every available core. */
export function getThreads(): number {
  if (threads === undefined) {
    const text = process.env.ASHLAR_THREADS;
    threads = text === undefined || text === '' ? availableParallelism() : checkThreads(Number(text), 'ASHLAR_THREADS');
  }
  return threads;
}

/**
 * Let kernels loaded from now on use `n` threads each. Kernels already loaded keep theirs: call it before first use.
 * @throws RangeError unless `n` is a whole number, at least 1.
 */
export function setThreads(n: number): void {
  threads = checkThreads(n, 'threads');
}

function checkThreads(n: number, name: string): number {
  if (!Number.isInteger(n) || n < 1) throw new RangeError(`${name} is ${n}; it must be a whole number, at least 1`);
  return n;
}

/** Load a graph. With `parallel` false it runs on the calling thread alone and starts no threads of its own. */
export function loadSession(model: Uint8Array<ArrayBuffer>, parallel: boolean): NativeSession {
  const session = new (loadBinding().InferenceSession)();
  session.loadModel(model.buffer, model.byteOffset, model.byteLength, {
    intraOpNumThreads: parallel ? getThreads() : 1,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    enableMemPattern: false,
    logSeverityLevel: 4,
    // Each session has threads of its own: those of an idle one must not spin while another computes.
    extra: { session: { force_spinning_stop: '1' } },
  });
  return session;
}
