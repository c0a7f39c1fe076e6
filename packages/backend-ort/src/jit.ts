import type { Tensor } from '@tensorflow/tfjs-core';
import { engine } from '@tensorflow/tfjs-core';
import type { OrtBackend } from './backend.ts';
import { outputName } from './graph.ts';
import { type Call, currentBackend, Graphs, type JitOptions } from './graphs.ts';
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
  const graphs = new Graphs<Args, Out, Session>(fn, options);
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

/** Results are written in place, into memory of the pool. */
function run(backend: OrtBackend, { entry, args, state }: Call<Session>): Tensor[] {
  const { program } = entry;
  if (program.outputs.length === 0) return [];
  entry.loaded ??= loadSession(program.takeModel(), 'graph');
  const feeds: Record<string, NativeTensor> = {};
  for (const { name, dtype, shape, data } of program.feeds(args, state)) {
    feeds[name] = { type: dtype, data, dims: shape, location: 'cpu' };
  }
  const fetches: Record<string, NativeTensor> = {};
  const outputs = program.outputs.map(({ shape, view, dtype }, i) => {
    const { tensor, values } = backend.allocate(shape, dtype);
    fetches[outputName(i)] = { type: dtype, data: values, dims: view, location: 'cpu' };
    return tensor;
  });
  try {
    entry.loaded.run(feeds, fetches);
  } catch (error) {
    for (const output of outputs) backend.disposeData(output.dataId, true);
    throw error;
  }
  return outputs.map((output) => engine().makeTensorFromTensorInfo(output));
}
