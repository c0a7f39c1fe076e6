import { createRequire } from 'node:module';
import { availableParallelism, totalmem } from 'node:os';
import { SENTINEL } from './graph.ts';
import type { LoadedGraph, NativeTensor, Runtime, Tensors } from './runtime.ts';

/**
 * The one place that touches ONNX Runtime. Its public API wraps every run in a promise, while TensorFlow.js kernels
 * are synchronous, so the native binding beneath it is imported directly; the version is pinned for that reason.
 */

interface NativeSession {
  loadModel(buffer: ArrayBuffer, offset: number, length: number, options: object): void;
  run(feeds: Tensors, fetches: Record<string, NativeTensor | null>, options: object): unknown;
  dispose(): void;
}

interface Binding {
  InferenceSession: new () => NativeSession;
}

const GAVE_UP = 'Non tensor type';

/** A loaded graph. */
export class Session implements LoadedGraph {
  readonly #native: NativeSession;

  constructor(native: NativeSession) {
    this.#native = native;
  }

  /**
   * Read `feeds` in place and write each result into the tensor given for it in `fetches`.
   * @throws Error when the runtime refuses: the results are then undefined.
   */
  run(feeds: Tensors, fetches: Tensors): void {
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    try {
      this.#native.run(feeds, { [SENTINEL]: null, ...fetches }, NO_OPTIONS);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith(GAVE_UP))) throw error;
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
    }
  }

  dispose(): void {
    this.#native.dispose();
  }
}

const NO_OPTIONS = {};

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

/**
 * Load a graph that is one kernel, or one that is a whole computation. A `kernel` runs on the calling thread alone and
 * starts no threads of its own; one that is `parallel`, and a `graph`, have threads.
 */
export function loadSession(model: Uint8Array<ArrayBuffer>, kind: 'kernel' | 'parallel' | 'graph'): Session {
  const session = new (loadBinding().InferenceSession)();
  session.loadModel(model.buffer, model.byteOffset, model.byteLength, {
    intraOpNumThreads: kind === 'kernel' ? 1 : getThreads(),
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    enableMemPattern: kind === 'graph',
    logSeverityLevel: 4,
    // Each session has threads of its own, which may spin while they wait. That gains a large graph 5 to 10% where cores
    // are free, and costs it 60% where they are not; a single kernel it gains nothing. Denormal numbers, which attention
    // that decays with distance is full of, cost processors a hundred times the usual; those threads take them for 0.
    extra: { session: { intra_op: { allow_spinning: '0' }, set_denormal_as_zero: '1' } },
  });
  return new Session(session);
}

/** The most memory that waits in the pool: an eighth of the machine's, at most 2 GB. */
const POOL_LIMIT = Math.min(2 ** 31, totalmem() / 8);

/** @throws Error when ONNX Runtime's native library does not load on this platform. */
export function nativeRuntime(): Runtime {
  loadBinding();
  return { load: loadSession, poolLimit: POOL_LIMIT };
}
