import { clone, type DataId, dispose, engine, keep, type Tensor } from '@tensorflow/tfjs-core';
import { OrtBackend } from './backend.ts';
import type { NativeDType } from './graph.ts';
import { hoistable } from './hoist.ts';
import { sameShape } from './kernel.ts';
import type { Inputs, Output } from './program.ts';
import { Program, sameData } from './program.ts';
import { record, standIns } from './record.ts';
import { type GraphInput, Trace } from './trace.ts';
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
  /**
   * Whether what depends on nothing but state that stays the same is kept from call to call, from the second such call on;
   * rounding may differ between that call and the one before. Default true.
   */
  hoist?: boolean;
}

/** A tensor that the function returned, or left in its state. */
type Result =
  | { from: 'graph'; output: number }
  /** The same in every run; the entry owns it. */
  | { from: 'constant'; tensor: Tensor }
  /** A tensor of the state as it was before. */
  | { from: 'state'; index: number };

/** What a traced function returned and left behind. */
interface Results {
  /** What it returned, its tensors standing for `results`. */
  out: unknown;
  results: Result[];
  /** The state after a run. */
  after: Result[];
}

/** The graphs of a function. */
export interface Programs {
  readonly program: Program;
  /** Computes what `program` is given of what depends on nothing but state that no run changes. */
  readonly hoisted?: Program;
}

/** The function traced for one signature. */
interface Entry<Loaded> extends Results {
  programs: Programs;
  /** The programs as their runtime has loaded them. */
  loaded?: Loaded;
  /** What to run in their place from the second call with the same state on, if anything can be kept from then. */
  split?: Required<Programs>;
  /** The state that the last call found, of that which `split.hoisted` reads. */
  found?: readonly DataId[];
  /** The tensors that the function found outside. */
  outside: readonly Tensor[];
}

/** A call on its way: what the graph reads, and what is needed to make sense of what it computes. */
export interface Call<Loaded> extends Inputs {
  readonly entry: Entry<Loaded>;
  readonly args: readonly Tensor[];
  readonly parts: Parts;
  readonly state: readonly Tensor[];
}

/** The graphs of one function, by signature: what `jit` does besides running them. */
export class Graphs<Args extends unknown[], Out, Loaded extends { dispose(): void }> {
  readonly name: string;
  traces = 0;
  readonly #fn: (...args: Args) => Out;
  readonly #state: readonly JitState[];
  readonly #maxGraphs: number;
  readonly #hoist: boolean;
  readonly #entries = new Map<string, Entry<Loaded>>();

  constructor(fn: (...args: Args) => Out, options: JitOptions) {
    const { state = [], name = fn.name || 'function', maxGraphs = 32, hoist = true } = options;
    this.name = name;
    this.#fn = fn;
    this.#state = state;
    this.#maxGraphs = maxGraphs;
    this.#hoist = hoist;
  }

  /** The graph for `args` and the present state, traced if need be. */
  begin(backend: OrtBackend, args: Args): Call<Loaded> {
    if (engine().isTapeOn()) {
      throw new Error(`The gradient of '${this.name}' under jit is asked for; take the gradient inside of it.`);
    }
    const { tensors, signature } = flatten(args, 'arguments');
    backend.checkAlive(`'${this.name}' under jit`, tensors);
    const state = this.#state;
    let parts = state.map((part) => part.read());
    const key = [
      signature,
      ...parts.flat().map(({ dtype, shape }) => `${dtype}[${shape}]`),
      ...state.map((part) => part.signature?.()),
    ].join(';');
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = this.#compile(backend, args, tensors);
      parts = state.map((part) => part.read());
      this.traces++;
    }
    // Most recently used last.
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (this.#entries.size > this.#maxGraphs) this.#forget(this.#entries.entries().next().value!);
    const call = { entry, args: tensors, parts, state: parts.flat() };
    settle(call);
    return call;
  }

  /** Trace the function; the state is as before afterwards. */
  #compile(backend: OrtBackend, args: Args, tensors: readonly Tensor[]): Entry<Loaded> {
    const { name } = this;
    const state = this.#state;
    const parts = state.map((part) => part.read());
    const before = separate(parts, state);
    // `fn` may dispose of what it replaces; these keep the numbers alive.
    const held = before.map((tensor) => keep(clone(tensor)));
    const trace = new Trace(backend);
    const body = (): Traced => {
      before.forEach((tensor, i) => {
        if (tensor.size > 0) trace.declareState(tensor, i);
      });
      const out = this.#fn(...standIns(trace, args, tensors));
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
      return {
        ...traced.results,
        programs: { program: new Program(backend, trace, traced.outputs, name) },
        split: this.#hoist ? split(backend, trace, traced, name) : undefined,
        outside: trace.outside,
      };
    } catch (error) {
      trace.dispose();
      disposeConstants(traced.results);
      throw error;
    }
  }

  /** What the function returns, and its state, from the `outputs` of the graph. */
  finish({ entry, parts, state }: Call<Loaded>, outputs: readonly Tensor[]): Out {
    const take = (result: Result): Tensor => {
      if (result.from === 'graph') return outputs[result.output]!;
      return clone(result.from === 'constant' ? result.tensor : state[result.index]!);
    };
    const results = entry.results.map(take).values();
    const after = entry.after.map((result, i) => (isSame(entry.after, i) ? state[i]! : take(result)));
    write(this.#state, parts, after);
    return rebuild(entry.out, () => results.next().value as Tensor) as Out;
  }

  /** The error for a graph that its runtime refused. */
  failure({ args }: Call<Loaded>, cause: unknown): Error {
    const shapes = args.map(({ dtype, shape }) => `${dtype}[${shape}]`).join(', ');
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new Error(`'${this.name}' under jit failed in ONNX Runtime on ${shapes}: ${reason}`, { cause });
  }

  dispose(): void {
    for (const each of [...this.#entries]) this.#forget(each);
  }

  #forget([key, entry]: [string, Entry<Loaded>]): void {
    this.#entries.delete(key);
    entry.loaded?.dispose();
    dispose([...entry.outside]);
    disposeConstants(entry);
  }
}

/** @throws Error if another backend is in use. */
export function currentBackend(what: string): OrtBackend {
  const { backend, backendName } = engine();
  if (backend instanceof OrtBackend) return backend;
  throw new Error(`${what} runs on the 'ort' backend; the current one is '${backendName}'.`);
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

/** The function in two graphs, if there is something to keep. */
function split(
  backend: OrtBackend,
  trace: Trace,
  { results, outputs }: Traced,
  name: string,
): Required<Programs> | undefined {
  const isSteady = ({ source }: GraphInput): boolean =>
    source.from === 'outside' || (source.from === 'state' && isSame(results.after, source.index));
  const kept = hoistable(
    trace,
    outputs.map(({ value }) => value),
    isSteady,
  );
  if (kept.length === 0) return undefined;
  return {
    program: new Program(backend, trace, outputs, name, kept),
    hoisted: new Program(backend, trace, kept, `${name}, hoisted`),
  };
}

/** Go over to graphs that keep what depends on state alone, if the state is that of the last call. */
function settle<Loaded extends { dispose(): void }>(call: Call<Loaded>): void {
  const { entry } = call;
  if (entry.split === undefined) return;
  const found = entry.split.hoisted.readState(call);
  if (sameData(found, entry.found)) {
    entry.loaded?.dispose();
    entry.loaded = undefined;
    entry.programs = entry.split;
    entry.split = undefined;
  }
  entry.found = found;
}

/** Whether the tensor at place `index` of the state stays what it is. */
function isSame(after: readonly Result[], index: number): boolean {
  const result = after[index]!;
  return result.from === 'state' && result.index === index;
}

interface Traced {
  results: Results;
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
  return { results: entry, outputs };
}

function checkNoneKept(trace: Trace, name: string): void {
  const [kept] = trace.alive;
  if (kept === undefined) return;
  throw new Error(
    `'${name}' keeps ${kept.dtype}[${kept.shape}] from ${kept.origin}, which has no values outside of the graph: ` +
      'return it, or declare what holds it as state.',
  );
}

function disposeConstants({ results, after }: Results): void {
  dispose([...results, ...after].flatMap((result) => (result.from === 'constant' ? [result.tensor] : [])));
}
