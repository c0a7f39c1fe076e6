import { clone, dispose, engine, keep, type Tensor } from '@tensorflow/tfjs-core';
import { OrtBackend } from './backend.ts';
import type { NativeDType } from './graph.ts';
import { sameShape } from './kernel.ts';
import type { Output } from './program.ts';
import { Program } from './program.ts';
import { record, standIns } from './record.ts';
import { Trace } from './trace.ts';
import { flatten, rebuild } from './tree.ts';

/** Tensors that live outside of a function under `jit` and that it may replace: parameters, moments of an optimizer. */
export interface JitState {
  /** The tensors, always in the same order; they stay the owner's. */
  read(): Tensor[];
  /** Replace them: takes ownership of those that are new and disposes of those that are gone. */
  write(tensors: readonly Tensor[]): void;
  /** Whatever else decides what the function computes (modes, switches): it is traced once for each value. */
  signature?(): string;
}

export interface JitOptions {
  /** All state that the function reads, if it may change from call to call, or replaces. */
  state?: readonly JitState[];
  /** For error messages and profiles. Default: the function's name. */
  name?: string;
  /** The most graphs to keep; the one longest unused goes first. Default 32. */
  maxGraphs?: number;
}

/** A function that runs as one native graph. */
export interface Jitted<Args extends unknown[], Out> {
  (...args: Args): Out;
  /** How often the function has been traced. */
  readonly traces: number;
  /** Lets go of the graphs, and of the tensors they hold. */
  dispose(): void;
}

/** A tensor that the function returned, or left in its state. */
type Result =
  | { from: 'graph'; output: number }
  /** The same in every run; the entry owns it. */
  | { from: 'constant'; tensor: Tensor }
  /** A tensor of the state as it was before. */
  | { from: 'state'; index: number };

/** The function traced for one signature. */
interface Entry {
  program: Program;
  /** What the function returned, its tensors standing for `results`. */
  out: unknown;
  results: Result[];
  /** The state after a run. */
  after: Result[];
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
  const { state = [], name = fn.name || 'function', maxGraphs = 32 } = options;
  const entries = new Map<string, Entry>();
  let traces = 0;

  const call = (...args: Args): Out => {
    const { backend } = engine();
    if (!(backend instanceof OrtBackend)) {
      throw new Error(`jit runs on the 'ort' backend; the current one is '${engine().backendName}'.`);
    }
    if (backend.trace) return fn(...args);
    if (engine().isTapeOn()) {
      throw new Error(`The gradient of '${name}' under jit is asked for; take the gradient inside of it.`);
    }
    const { tensors, signature } = flatten(args, 'arguments');
    backend.checkAlive(`'${name}' under jit`, tensors);
    let parts = state.map((part) => part.read());
    const key = [
      signature,
      ...parts.flat().map(({ dtype, shape }) => `${dtype}[${shape}]`),
      ...state.map((part) => part.signature?.()),
    ].join(';');
    let entry = entries.get(key);
    if (entry === undefined) {
      entry = compile(backend, fn, args, tensors, state, name);
      parts = state.map((part) => part.read());
      traces++;
    }
    // Most recently used last.
    entries.delete(key);
    entries.set(key, entry);
    if (entries.size > maxGraphs) forget(entries.entries().next().value!);
    const before = parts.flat();
    const outputs = run(entry, name, tensors, before);
    const take = (result: Result): Tensor => {
      if (result.from === 'graph') return outputs[result.output]!;
      return clone(result.from === 'constant' ? result.tensor : before[result.index]!);
    };
    const results = entry.results.map(take).values();
    const after = entry.after.map((result, i) =>
      result.from === 'state' && result.index === i ? before[i]! : take(result),
    );
    write(state, parts, after);
    return rebuild(entry.out, () => results.next().value as Tensor) as Out;
  };
  const forget = ([key, entry]: [string, Entry]): void => {
    entries.delete(key);
    entry.program.dispose();
    disposeConstants(entry);
  };
  return Object.defineProperties(call as Jitted<Args, Out>, {
    traces: { get: () => traces },
    dispose: { value: () => [...entries].forEach(forget) },
  });
}

function run({ program }: Entry, name: string, args: readonly Tensor[], state: readonly Tensor[]): Tensor[] {
  try {
    return program.run(args, state);
  } catch (cause) {
    const shapes = args.map(({ dtype, shape }) => `${dtype}[${shape}]`).join(', ');
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`'${name}' under jit failed in ONNX Runtime on ${shapes}: ${reason}`, { cause });
  }
}

type Parts = readonly (readonly Tensor[])[];

/** Write `tensors`, listed as in the `parts` that were read. */
function write(state: readonly JitState[], parts: Parts, tensors: readonly Tensor[]): void {
  let start = 0;
  state.forEach((part, i) => {
    const count = parts[i]!.length;
    part.write(tensors.slice(start, start + count));
    start += count;
  });
}

/** The state, with memory of its own at every place: tensors that share it now need not share it in the next call. */
function separate(parts: Parts, state: readonly JitState[]): Tensor[] {
  const seen = new Set<object>();
  const own = parts.flat().map((tensor) => {
    const shared = seen.has(tensor.dataId);
    seen.add(tensor.dataId);
    return shared ? copy(tensor) : tensor;
  });
  write(state, parts, own);
  return own;
}

function copy(tensor: Tensor): Tensor {
  const backend = engine().backend as OrtBackend;
  const { tensor: info, values } = backend.allocate(tensor.shape, tensor.dtype as NativeDType);
  values.set(backend.values(tensor));
  return engine().makeTensorFromTensorInfo(info);
}

/** Trace `fn`; the state is as before afterwards. */
function compile<Args extends unknown[], Out>(
  backend: OrtBackend,
  fn: (...args: Args) => Out,
  args: Args,
  tensors: readonly Tensor[],
  state: readonly JitState[],
  name: string,
): Entry {
  const parts = state.map((part) => part.read());
  const before = separate(parts, state);
  // `fn` may dispose of what it replaces; these keep the numbers alive.
  const held = before.map((tensor) => keep(clone(tensor)));
  const trace = new Trace(backend);
  const body = (): Traced => {
    before.forEach((tensor, i) => {
      if (tensor.size > 0) trace.declareState(tensor, i);
    });
    const out = fn(...standIns(trace, args, tensors));
    if (out instanceof Promise) throw new Error(`'${name}' returns a promise; under jit it may not wait.`);
    const after = state.map((part) => part.read());
    if (after.some((list, i) => list.length !== parts[i]!.length)) {
      throw new Error(`'${name}' changes how many tensors its state has, which one graph cannot.`);
    }
    return collect(trace, out, before, after.flat());
  };
  const restore = (): void => {
    const kept = before.map((tensor, i) => (tensor.isDisposed ? held[i]! : tensor));
    write(state, parts, kept);
    dispose(held.filter((tensor) => !kept.includes(tensor)));
  };
  const traced = record(backend, trace, body, restore);
  try {
    checkNoneKept(trace, name);
    return { ...traced.entry, program: new Program(backend, trace, traced.outputs, name) };
  } catch (error) {
    trace.dispose();
    disposeConstants(traced.entry);
    throw error;
  }
}

interface Traced {
  entry: Omit<Entry, 'program'>;
  outputs: Output[];
}

/** What `fn` returned and left behind, as results; stand-ins among the returned are disposed of. */
function collect(trace: Trace, out: unknown, before: readonly Tensor[], after: readonly Tensor[]): Traced {
  const outputs: Output[] = [];
  const resolve = (tensor: Tensor): Result => {
    const { dataId, shape } = tensor;
    const traced = trace.find(dataId);
    if (traced === undefined) return { from: 'constant', tensor: keep(clone(tensor)) };
    const index = before.findIndex((old) => old.dataId === dataId && sameShape(old.shape, shape));
    if (index >= 0) return { from: 'state', index };
    const { value, dtype, shape: view } = traced;
    return { from: 'graph', output: outputs.push({ value, shape, view, dtype }) - 1 };
  };
  const returned = flatten(out, 'the result').tensors;
  const entry = { out, results: returned.map(resolve), after: after.map(resolve) };
  dispose(returned.filter((tensor) => trace.find(tensor.dataId) && !after.includes(tensor)));
  return { entry, outputs };
}

function checkNoneKept(trace: Trace, name: string): void {
  const [kept] = trace.alive;
  if (kept === undefined) return;
  throw new Error(
    `'${name}' keeps ${kept.dtype}[${kept.shape}] from ${kept.origin}, which has no values outside of the graph: ` +
      'return it, or declare what holds it as state.',
  );
}

function disposeConstants({ results, after }: Omit<Entry, 'program'>): void {
  dispose([...results, ...after].flatMap((result) => (result.from === 'constant' ? [result.tensor] : [])));
}
