import { type DataType, engine, type Tensor, type TensorInfo, tensor } from '@tensorflow/tfjs-core';
import type { AnyModule } from './module.ts';
import type { Buffer, Parameter } from './parameter.ts';

/** Tensors outside of a function under `jit` that it may replace, or that change between its calls. */
export interface JitState {
  /** The tensors, always in the same order; they stay the owner's. */
  read(): Tensor[];
  /** Replaces them: takes ownership of those that are new and disposes of those that are gone. */
  write(tensors: readonly Tensor[]): void;
  /** Whatever else decides what the function computes (modes, switches): it is traced once for each value. */
  signature?(): string;
}

export interface JitOptions {
  /** All state that the function replaces, or that changes between its calls. Other tensors are constants. */
  readonly state?: readonly JitState[];
  /** For error messages. Default: the function's name. */
  readonly name?: string;
  /** The most graphs to keep; the one longest unused goes first. Default 32. */
  readonly maxGraphs?: number;
  /**
   * Whether what depends on nothing but state that stays the same is kept from call to call, from the second such call on;
   * rounding may differ between that call and the one before. Default true.
   */
  readonly hoist?: boolean;
}

/** What a function under `jit` has besides being one. */
export interface Traced {
  /** How often the function has been traced: 0 on a backend that runs it as it is. */
  readonly traces: number;
  /** Lets go of the graphs, and of the tensors they hold. */
  dispose(): void;
}

/** A function that runs as one graph where the backend can do that. */
export type Jitted<Args extends unknown[], Out> = ((...args: Args) => Out) & Traced;

/** What a backend that traces has besides kernels. */
interface TracingBackend {
  jit?<Args extends unknown[], Out>(fn: (...args: Args) => Out, options: JitOptions): Jitted<Args, Out>;
  jitAsync?<Args extends unknown[], Out>(fn: (...args: Args) => Out, options: JitOptions): Jitted<Args, Promise<Out>>;
  trace?: object;
  hostInput?(shape: readonly number[], dtype: DataType, make: () => Float32Array | Int32Array): TensorInfo;
}

/** The backend in use, if one is set already: asking the engine for it would set one. */
function current(): TracingBackend | undefined {
  const { registry, backendName } = engine();
  return registry[backendName] as TracingBackend | undefined;
}

/** Whether the backend in use runs functions as graphs, by `jitAsync` at least. */
export function canJit(): boolean {
  const backend = current();
  return backend?.jit !== undefined || backend?.jitAsync !== undefined;
}

/**
 * `fn`, run as one graph by a backend that can do that at once (`@ashlar/backend-ort` in Node, whose `jit` says what
 * `fn` may do), and as it is by the others, with equal results up to rounding.
 * @example
 * const step = jit((x: Tensor, y: Tensor) => update(x, y), { state: [moduleState(model), optimizer] });
 */
export function jit<Args extends unknown[], Out>(
  fn: (...args: Args) => Out,
  options: JitOptions = {},
): Jitted<Args, Out> {
  return onEveryBackend(fn, (backend) => backend.jit?.(fn, { name: fn.name, ...options }));
}

/** As `jit`, also for backends that answer with a promise: `@ashlar/backend-ort` in a browser. */
export function jitAsync<Args extends unknown[], Out>(
  fn: (...args: Args) => Out,
  options: JitOptions = {},
): Jitted<Args, Promise<Out>> {
  const named = { name: fn.name, ...options };
  const plain = async (...args: Args): Promise<Out> => fn(...args);
  return onEveryBackend(plain, (backend) => {
    if (backend.jitAsync !== undefined) return backend.jitAsync(fn, named);
    const jitted = backend.jit?.(fn, named);
    return (
      jitted &&
      traced(
        async (...args: Args) => jitted(...args),
        () => [jitted],
      )
    );
  });
}

/** `plain`, in the form that `compile` makes of it for the backend in use, if it does. */
function onEveryBackend<Args extends unknown[], Out>(
  plain: (...args: Args) => Out,
  compile: (backend: TracingBackend) => Jitted<Args, Out> | undefined,
): Jitted<Args, Out> {
  const compiled = new Map<TracingBackend, Jitted<Args, Out> | undefined>();
  const call = (...args: Args): Out => {
    const backend = engine().backend as TracingBackend;
    if (!compiled.has(backend)) compiled.set(backend, compile(backend));
    return (compiled.get(backend) ?? plain)(...args);
  };
  return traced(call, () => [...compiled.values()].filter((jitted) => jitted !== undefined));
}

function traced<F extends object>(call: F, parts: () => readonly Traced[]): F & Traced {
  return Object.defineProperties(call as F & Traced, {
    traces: { get: () => parts().reduce((sum, { traces }) => sum + traces, 0) },
    dispose: {
      value() {
        for (const part of parts()) part.dispose();
      },
    },
  });
}

/** `parameters` as state of a function under `jit`. */
export function parameterState(parameters: Iterable<Parameter>): JitState {
  const list = [...parameters];
  return slotState(() => list);
}

/**
 * The parameters and buffers of `model` that are not idle, with its modes: what a function under `jit` that runs it has as
 * state.
 */
export function moduleState(model: AnyModule): JitState {
  const used = <S extends Parameter | Buffer>(slots: Iterable<[string, S]>): S[] => {
    const idle = new Set([...model.namedModules()].flatMap(([, module]) => [...module.idleSlots()]));
    return [...slots].flatMap(([, slot]) => (idle.has(slot) ? [] : [slot]));
  };
  return {
    ...slotState(() => used<Parameter | Buffer>([...model.namedParameters(), ...model.namedBuffers()])),
    signature() {
      const modes = [...model.namedModules()].map(([, module]) => module.signature());
      const ways = (p: Parameter): string => p.parametrizations.map((way) => way.signature?.() ?? '').join(';');
      const trained = used(model.namedParameters()).map(
        (p) => `${Number(p.requiresGrad)}${p.parametrizations.length}${ways(p)}`,
      );
      return `${modes.join()}/${trained.join()}`;
    },
  };
}

function slotState(slots: () => readonly (Parameter | Buffer)[]): JitState {
  return {
    read: () => slots().map((slot) => slot.stored),
    write(tensors) {
      for (const [i, slot] of slots().entries()) slot.assign(tensors[i]);
    },
  };
}

/** The trace in progress, if any. */
export function currentTrace(): object | undefined {
  return current()?.trace;
}

/** Runs `make` at once, also in a function that is being traced: for what is made on first use and stays. */
export function outsideTrace<T>(make: () => T): T {
  const backend = current();
  const trace = backend?.trace;
  if (backend === undefined || trace === undefined) return make();
  backend.trace = undefined;
  try {
    return make();
  } finally {
    backend.trace = trace;
  }
}

/** A tensor of the numbers that `make` gives; under `jit`, if `everyRun`, of those it gives anew in every run. */
export function hostTensor(
  shape: readonly number[],
  dtype: 'float32' | 'int32',
  make: () => Float32Array | Int32Array,
  everyRun: boolean,
): Tensor {
  const backend = current();
  if (!everyRun || backend?.hostInput === undefined) return tensor(make(), shape as number[], dtype);
  return engine().makeTensorFromTensorInfo(backend.hostInput(shape, dtype, make));
}
