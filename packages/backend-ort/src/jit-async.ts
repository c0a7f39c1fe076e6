import { type DataId, engine, type Tensor } from '@tensorflow/tfjs-core';
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-web';
import type { OrtBackend } from './backend.ts';
import { outputName } from './graph.ts';
import { type Call, currentBackend, Graphs, type JitOptions, type Programs } from './graphs.ts';
import { type Inputs, type Program, sameData } from './program.ts';

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

/** The programs of a traced function, loaded. */
class Loaded {
  readonly #ort: typeof import('onnxruntime-web');
  readonly #program: InferenceSession;
  readonly #hoisted: InferenceSession | undefined;
  /** What `#hoisted` has computed, where the graphs run, and the state that it was computed from. */
  #kept: Record<string, OrtTensor> = {};
  #keptFor: readonly DataId[] | undefined;

  constructor(ort: typeof import('onnxruntime-web'), program: InferenceSession, hoisted: InferenceSession | undefined) {
    this.#ort = ort;
    this.#program = program;
    this.#hoisted = hoisted;
  }

  static async load({ program, hoisted }: Programs): Promise<Loaded> {
    // Both sets of files load only when a function is traced; the one with WebGPU is larger.
    const names = await executionProviders();
    const gpu = names.includes('webgpu');
    const ort = await (gpu ? import('onnxruntime-web/webgpu') : import('onnxruntime-web/wasm'));
    const session = (model: Program, preferredOutputLocation: 'cpu' | 'gpu-buffer'): Promise<InferenceSession> =>
      ort.InferenceSession.create(model.takeModel(), {
        executionProviders: [...names],
        graphOptimizationLevel: 'all',
        preferredOutputLocation,
        // Errors only: that WebGPU leaves some nodes to WebAssembly is meant to be.
        logSeverityLevel: 3,
      });
    return new Loaded(
      ort,
      await session(program, 'cpu'),
      hoisted && (await session(hoisted, gpu ? 'gpu-buffer' : 'cpu')),
    );
  }

  /** The results, in the order of the program's outputs. */
  async run(call: Call<Loaded>): Promise<OrtTensor[]> {
    const { program, hoisted } = call.entry.programs;
    if (hoisted) await this.#refresh(hoisted, call);
    const results = await this.#program.run({ ...this.#kept, ...this.#feeds(program, call) });
    return program.outputs.map((_, i) => results[outputName(i)]!);
  }

  /** Compute anew what is kept, if the state is another. */
  async #refresh(hoisted: Program, call: Call<Loaded>): Promise<void> {
    const state = hoisted.readState(call);
    if (sameData(state, this.#keptFor)) return;
    this.#forget();
    const results = await this.#hoisted!.run(this.#feeds(hoisted, call));
    this.#kept = Object.fromEntries(hoisted.outputs.map(({ value }, i) => [value, results[outputName(i)]!]));
    this.#keptFor = state;
  }

  #feeds(program: Program, inputs: Inputs): Record<string, OrtTensor> {
    const feeds: Record<string, OrtTensor> = {};
    for (const { name, dtype, shape, data } of program.feeds(inputs)) {
      feeds[name] = new this.#ort.Tensor(dtype, data as never, shape) as OrtTensor;
    }
    return feeds;
  }

  #forget(): void {
    for (const tensor of Object.values(this.#kept)) tensor.dispose();
    this.#kept = {};
    this.#keptFor = undefined;
  }

  dispose(): void {
    this.#forget();
    void this.#program.release();
    void this.#hoisted?.release();
  }
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
  const { outputs } = entry.programs.program;
  if (outputs.length === 0) return [];
  entry.loaded ??= await Loaded.load(entry.programs);
  const results = await entry.loaded.run(call);
  return outputs.map(({ shape, dtype }, i) => {
    const { tensor, values } = backend.allocate(shape, dtype);
    values.set(results[i]!.data as Float32Array);
    return engine().makeTensorFromTensorInfo(tensor);
  });
}
