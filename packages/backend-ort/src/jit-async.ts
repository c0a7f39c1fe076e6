import { engine, type Tensor } from '@tensorflow/tfjs-core';
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-web';
import type { OrtBackend } from './backend.ts';
import { outputName } from './graph.ts';
import { type Call, currentBackend, Graphs, type JitOptions } from './graphs.ts';

/** A function that runs as one graph; calls wait for one another, since each may change the state. */
export interface JittedAsync<Args extends unknown[], Out> {
  (...args: Args): Promise<Out>;
  /** How often the function has been traced. */
  readonly traces: number;
  /** Lets go of the graphs, and of the tensors they hold. */
  dispose(): void;
}

type ExecutionProvider = 'webgpu' | 'wasm';

let providers: readonly ExecutionProvider[] | undefined;

/**
 * Where graphs loaded from now on run: `['wasm']` or `['webgpu', 'wasm']` (what WebGPU lacks then runs in WebAssembly).
 * Default: with WebGPU where the browser has an adapter.
 */
export function setExecutionProviders(names: readonly ExecutionProvider[]): void {
  providers = names;
}

async function executionProviders(): Promise<readonly ExecutionProvider[]> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<object | null> } };
  providers ??= (await gpu?.requestAdapter()) ? ['webgpu', 'wasm'] : ['wasm'];
  return providers;
}

/** The tensors of `jit`'s graphs, as onnxruntime-web takes them. */
interface Loaded {
  run(call: Call<Loaded>): Promise<OrtTensor[]>;
  dispose(): void;
}

async function load({ entry: { program } }: Call<Loaded>): Promise<Loaded> {
  // Both sets of files load only when a function is traced; the one with WebGPU is larger.
  const names = await executionProviders();
  const ort = await (names.includes('webgpu') ? import('onnxruntime-web/webgpu') : import('onnxruntime-web/wasm'));
  const session: InferenceSession = await ort.InferenceSession.create(program.takeModel(), {
    executionProviders: [...names],
    graphOptimizationLevel: 'all',
    // Errors only: that WebGPU leaves some nodes to WebAssembly is meant to be.
    logSeverityLevel: 3,
  });
  const fetches = program.outputs.map((_, i) => outputName(i));
  return {
    async run({ args, state }) {
      const feeds: Record<string, OrtTensor> = {};
      for (const { name, dtype, shape, data } of program.feeds(args, state)) {
        feeds[name] = new ort.Tensor(dtype, data as never, shape) as OrtTensor;
      }
      const results = await session.run(feeds, fetches);
      return fetches.map((name) => results[name]!);
    },
    dispose: () => void session.release(),
  };
}

/** As `jit`, for runtimes that answer with a promise: the results arrive when the graph has run. */
export function jitAsync<Args extends unknown[], Out>(
  fn: (...args: Args) => Out,
  options: JitOptions = {},
): JittedAsync<Args, Out> {
  const graphs = new Graphs<Args, Out, Loaded>(fn, options);
  const once = async (args: Args): Promise<Out> => {
    const backend = currentBackend('jitAsync');
    const begun = graphs.begin(backend, args);
    try {
      return graphs.finish(begun, await run(backend, begun));
    } catch (cause) {
      throw graphs.failure(begun, cause);
    }
  };
  let last: Promise<unknown> = Promise.resolve();
  const call = (...args: Args): Promise<Out> => {
    const result = last.then(() => once(args));
    last = result.catch(() => {});
    return result;
  };
  return Object.defineProperties(call as JittedAsync<Args, Out>, {
    traces: { get: () => graphs.traces },
    dispose: { value: () => graphs.dispose() },
  });
}

async function run(backend: OrtBackend, call: Call<Loaded>): Promise<Tensor[]> {
  const { entry } = call;
  const { outputs } = entry.program;
  if (outputs.length === 0) return [];
  entry.loaded ??= await load(call);
  const results = await entry.loaded.run(call);
  return outputs.map(({ shape, dtype }, i) => {
    const { tensor, values } = backend.allocate(shape, dtype);
    values.set(results[i]!.data as Float32Array);
    return engine().makeTensorFromTensorInfo(tensor);
  });
}
