import type { DataId, Tensor, TensorInfo } from '@tensorflow/tfjs-core';
import { dispose, engine, keep } from '@tensorflow/tfjs-core';
import type { NativeArray, OrtBackend } from './backend.ts';
import type { NativeDType, Plan, Value } from './graph.ts';
import { GraphBuilder } from './graph.ts';
import { sameShape } from './kernel.ts';

/** A value of the graph being traced, in the place of a tensor's numbers. */
export interface TracedValue {
  readonly trace: Trace;
  readonly value: Value;
  /** Its shape within the graph: the same elements as the tensor's, in the same order. */
  readonly shape: readonly number[];
  readonly dtype: NativeDType;
  /** What made it, for error messages. */
  readonly origin: string;
}

/** A value that a kernel computes. */
export interface MadeValue {
  readonly kernel: string;
  /** Its shape within the graph. */
  readonly shape: readonly number[];
  readonly dtype: NativeDType;
}

/** Where the numbers of a graph input come from, run by run. */
export type Source =
  | { readonly from: 'argument' | 'state'; readonly index: number }
  /** A tensor that the function found outside: kept as it was when traced. */
  | { readonly from: 'outside'; readonly tensor: Tensor }
  /** Numbers made anew for every run: random draws. */
  | { readonly from: 'host'; make(): NativeArray };

export interface GraphInput {
  readonly name: Value;
  readonly source: Source;
  readonly shape: readonly number[];
  readonly dtype: NativeDType;
}

/** Tensors from outside with fewer elements become constants that the runtime may fold; others are fed without a copy. */
const FED_FROM = 1024;

export interface TraceOptions {
  /** Whether every tensor from outside is an input of the graph, however small. */
  feedAll?: boolean;
  /** Whether what is computed twice of the same is in the graph once. */
  merge?: boolean;
}

/** The graph that grows while a function runs on stand-ins: tensors with shapes and types and no numbers yet. */
export class Trace {
  readonly graph: GraphBuilder;
  readonly inputs: GraphInput[] = [];
  /** The results of kernels; other values are on the way to them. */
  readonly made: Map<Value, MadeValue> = new Map();
  readonly #backend: OrtBackend;
  /** Tensors that have numbers, by their data: the state, and what was found outside. */
  readonly #found = new Map<DataId, TracedValue>();
  readonly #state = new Set<DataId>();
  readonly #reshaped = new Map<string, Value>();
  readonly #standIns = new Map<DataId, TracedValue>();

  readonly #fedFrom: number;

  constructor(backend: OrtBackend, { feedAll = false, merge = true }: TraceOptions = {}) {
    this.#backend = backend;
    this.#fedFrom = feedAll ? 0 : FED_FROM;
    this.graph = new GraphBuilder({ merge });
  }

  /** What the stand-ins that nobody has disposed of stand for. */
  get alive(): TracedValue[] {
    return [...this.#standIns.values()];
  }

  /** What stands for the data, where its numbers are not known until the graph runs. */
  find(dataId: DataId): TracedValue | undefined {
    if (this.#state.has(dataId)) return this.#found.get(dataId);
    const traced = this.#backend.tracedValue(dataId);
    return traced?.trace === this ? traced : undefined;
  }

  /** Let the tensor at place `index` of the state be read anew at every run. */
  declareState(tensor: TensorInfo, index: number): void {
    const { dataId, shape } = tensor;
    const dtype = tensor.dtype as NativeDType;
    const value = this.#input({ from: 'state', index }, shape, dtype);
    this.#found.set(dataId, { trace: this, value, shape, dtype, origin: 'the state' });
    this.#state.add(dataId);
  }

  /** A stand-in for an input of the graph. */
  input(source: Source, shape: readonly number[], dtype: NativeDType, origin: string): TensorInfo {
    const value = this.#input(source, shape, dtype);
    return this.#standIn({ trace: this, value, shape, dtype, origin }, shape);
  }

  #input(source: Source, shape: readonly number[], dtype: NativeDType): Value {
    const name = `x${this.inputs.length}`;
    this.inputs.push({ name, source, shape, dtype });
    return name;
  }

  /** Add the nodes of `plan`; stand-ins for what they compute. */
  run(kernel: string, plan: Plan): TensorInfo[] {
    const common = plan.elementwise ? this.#commonShape(plan) : undefined;
    const seenAs = (shape: readonly number[]): readonly number[] => (common && shape.length === 1 ? common : shape);
    const inputs = plan.inputs.map(({ tensor, shape }) => this.value(tensor, seenAs(shape)));
    const params = (plan.params ?? []).map((param) => this.graph.param(param));
    const values = [plan.emit(this.graph, inputs, params)].flat();
    return plan.outputs.map(({ shape, view = shape, dtype }, i) => {
      const value = values[i]!;
      const made = { shape: seenAs(view), dtype };
      // A kernel with nothing to do hands on what another made.
      if (!this.made.has(value)) this.made.set(value, { ...made, kernel });
      return this.#standIn({ ...made, trace: this, value, origin: kernel }, shape);
    });
  }

  /** The shape that the first vector among the inputs has in the graph already. */
  #commonShape({ inputs }: Plan): readonly number[] | undefined {
    for (const { tensor, shape } of inputs) {
      const traced = shape.length === 1 ? this.find(tensor.dataId) : undefined;
      if (traced) return traced.shape;
    }
    return undefined;
  }

  /** The graph's value for `tensor`, seen as `shape`. */
  value(tensor: TensorInfo, shape: readonly number[]): Value {
    const traced = this.find(tensor.dataId) ?? this.#outside(tensor, shape);
    if (sameShape(traced.shape, shape)) return traced.value;
    const key = `${traced.value}:${shape}`;
    let reshaped = this.#reshaped.get(key);
    if (reshaped === undefined) {
      reshaped = this.graph.op('Reshape', [traced.value, this.graph.constant('int64', shape)]);
      this.#reshaped.set(key, reshaped);
    }
    return reshaped;
  }

  #outside(tensor: TensorInfo, shape: readonly number[]): TracedValue {
    const { dataId } = tensor;
    const dtype = tensor.dtype as NativeDType;
    const known = this.#found.get(dataId);
    // The cpu backend's casts may share the data of another type.
    if (known?.dtype === dtype) return known;
    const values = this.#backend.values(tensor);
    let value: Value;
    if (values.length < this.#fedFrom) {
      value = this.graph.initializer(dtype, shape, values.slice());
    } else {
      this.#backend.incRef(dataId);
      const own = keep(engine().makeTensorFromTensorInfo({ dataId, dtype, shape: shape as number[] }));
      value = this.#input({ from: 'outside', tensor: own }, shape, dtype);
    }
    const found = { trace: this, value, shape, dtype, origin: 'outside' };
    this.#found.set(dataId, found);
    return found;
  }

  #standIn(traced: TracedValue, shape: readonly number[]): TensorInfo {
    const standIn = this.#backend.standIn(traced, shape);
    this.#standIns.set(standIn.dataId, traced);
    return standIn;
  }

  /** A stand-in is disposed of. */
  forget(dataId: DataId): void {
    this.#standIns.delete(dataId);
  }

  /** The tensors from outside, which the trace keeps. */
  get outside(): Tensor[] {
    return this.inputs.flatMap(({ source }) => (source.from === 'outside' ? [source.tensor] : []));
  }

  /** Let go of the tensors from outside. */
  dispose(): void {
    dispose(this.outside);
  }
}
