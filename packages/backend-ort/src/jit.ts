import type { DataId, Tensor, TensorInfo } from '@tensorflow/tfjs-core';
import { engine } from '@tensorflow/tfjs-core';
import type { OrtBackend } from './backend.ts';
import { ARRAYS, outputName } from './graph.ts';
import { type Call, currentBackend, Graphs, type JitOptions, type Programs } from './graphs.ts';
import { sizeOf } from './kernel.ts';
import { type Inputs, type Program, sameData } from './program.ts';
import type { NativeTensor } from './runtime.ts';
import { loadSession, type Session } from './session.ts';

/** A function that runs as one native graph. */
export interface Jitted<Args extends unknown[], Out> {
  (...args: Args): Out;
  /** How often the function has been traced. */
  readonly traces: number;
  /** Lets go of the graphs, and of the tensors they hold. */
  dispose(): void;
}

/**
 * `fn` as one ONNX graph: it runs once with stand-ins for its tensors, and whatever kernels it calls (those of
 * gradients and of an optimizer's update, too) become nodes of the graph, which ONNX Runtime then optimizes and runs
 * without JavaScript between them. Results equal those of `fn` up to rounding.
 *
 * - Arguments and results are tensors, numbers, strings and booleans, in arrays, plain objects and Maps. The caller
 *   owns the results. Shapes, types and everything that is no tensor are fixed in the graph: another combination is
 *   traced anew.
 * - Tensors found outside (not arguments, not `state`) are constants, as they were when `fn` was traced.
 * - What depends on nothing but state that stays the same (biases made from a table, weights with a mask) is kept from the
 *   second call with that state on, in up to 256 MiB, until the state is replaced.
 * - Random tensors of an `Rng` from outside are drawn anew for every call, in the same order as without `jit`.
 * - Side effects happen when `fn` is traced and not again.
 * - A call inside of another traced function is part of that one's graph.
 *
 * @throws Error when `fn` reads the values of a tensor, uses a kernel that has no form in ONNX, returns a promise, or
 *   keeps a tensor that is neither returned nor in `state`. State and arguments are then as before.
 */
export function jit<Args extends unknown[], Out>(
  fn: (...args: Args) => Out,
  options: JitOptions = {},
): Jitted<Args, Out> {
  const graphs = new Graphs<Args, Out, Loaded>(fn, options);
  const call = (...args: Args): Out => {
    const backend = currentBackend('jit');
    if (backend.trace) return fn(...args);
    const begun = graphs.begin(backend, args);
    let outputs: Tensor[];
    try {
      outputs = run(backend, begun);
    } catch (cause) {
      throw graphs.failure(begun, cause);
    }
    return graphs.finish(begun, outputs);
  };
  return Object.defineProperties(call as Jitted<Args, Out>, {
    traces: { get: () => graphs.traces },
    dispose: { value: () => graphs.dispose() },
  });
}

function run(backend: OrtBackend, call: Call<Loaded>): Tensor[] {
  const { entry } = call;
  if (entry.programs.program.outputs.length === 0) return [];
  entry.loaded ??= new Loaded(entry.programs);
  return entry.loaded.run(backend, call).map((output) => engine().makeTensorFromTensorInfo(output));
}

/** The programs of a traced function, loaded. */
class Loaded {
  readonly #program: Session;
  readonly #hoisted: Session | undefined;
  /** What `#hoisted` has computed, in memory of its own, and the state that it was computed from. */
  readonly #kept: Record<string, NativeTensor> = {};
  #keptFor: readonly DataId[] | undefined;

  constructor({ program, hoisted }: Programs) {
    this.#program = loadSession(program.takeModel(), 'graph');
    this.#hoisted = hoisted && loadSession(hoisted.takeModel(), 'graph');
    for (const { value, view, dtype } of hoisted?.outputs ?? []) {
      this.#kept[value] = { type: dtype, data: new ARRAYS[dtype](sizeOf(view)), dims: view, location: 'cpu' };
    }
  }

  /** Results are written in place, into memory of the pool. */
  run(backend: OrtBackend, call: Call<Loaded>): TensorInfo[] {
    const { program, hoisted } = call.entry.programs;
    if (hoisted) this.#refresh(hoisted, call);
    const fetches: Record<string, NativeTensor> = {};
    const outputs = program.outputs.map(({ shape, view, dtype }, i) => {
      const { tensor, values } = backend.allocate(shape, dtype);
      fetches[outputName(i)] = { type: dtype, data: values, dims: view, location: 'cpu' };
      return tensor;
    });
    try {
      this.#program.run({ ...this.#kept, ...feedsOf(program, call) }, fetches);
    } catch (error) {
      for (const output of outputs) backend.disposeData(output.dataId, true);
      throw error;
    }
    return outputs;
  }

  /** Compute anew what is kept, if the state is another. */
  #refresh(hoisted: Program, call: Call<Loaded>): void {
    const state = hoisted.readState(call);
    if (sameData(state, this.#keptFor)) return;
    this.#keptFor = undefined;
    const kept = hoisted.outputs.map(({ value }, i) => [outputName(i), this.#kept[value]!]);
    this.#hoisted!.run(feedsOf(hoisted, call), Object.fromEntries(kept));
    this.#keptFor = state;
  }

  dispose(): void {
    this.#program.dispose();
    this.#hoisted?.dispose();
  }
}

function feedsOf(program: Program, inputs: Inputs): Record<string, NativeTensor> {
  const feeds: Record<string, NativeTensor> = {};
  for (const { name, dtype, shape, data } of program.feeds(inputs)) {
    feeds[name] = { type: dtype, data, dims: shape, location: 'cpu' };
  }
  return feeds;
}
