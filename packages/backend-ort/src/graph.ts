import type { DataType, TensorInfo } from '@tensorflow/tfjs-core';
import type { Attribute, ElementType, Initializer, Model, Node, ValueInfo } from './onnx.ts';
import { encodeModel } from './onnx.ts';

/** The tensor types that ONNX graphs compute here; complex numbers and strings stay with the cpu kernels. */
export type NativeDType = 'float32' | 'int32' | 'bool';

/** A value inside a graph being built, by its name. */
export type Value = string;

/** What a kernel writes its nodes to: a one-kernel graph when run eagerly, one large graph under tracing. */
export interface Emitter {
  /** Add a node and return its (first) output. `null` leaves an optional input out. */
  op(op: string, inputs: readonly (Value | null)[], attributes?: Readonly<Record<string, Attribute>>): Value;
  /** Add a node with `count` outputs. */
  ops(
    op: string,
    inputs: readonly (Value | null)[],
    count: number,
    attributes?: Readonly<Record<string, Attribute>>,
  ): Value[];
  /** A constant; without `shape` a scalar from a number, a vector from an array. */
  constant(type: 'float32' | 'int32' | 'int64' | 'bool', data: number | readonly number[]): Value;
}

/** An input of a graph: a tensor, seen as `shape` (the same elements in the same order, so seeing costs nothing). */
export interface Operand {
  tensor: TensorInfo;
  shape: readonly number[];
}

/** An output: computed by the graph as `view`, handed to TensorFlow.js as `shape`. */
export interface Result {
  shape: readonly number[];
  dtype: NativeDType;
  view?: readonly number[];
}

/**
 * Numbers that may differ from call to call (where a slice starts, how much to pad): they are inputs of an eager graph
 * and constants of a traced one. Whole numbers are int64 vectors; others a scalar of their type.
 */
export type Param = readonly number[] | { type: 'float32' | 'int32' | 'bool'; value: number };

/** How to compute one kernel call as ONNX nodes. */
export interface Plan {
  /** Everything `emit` depends on besides its arguments and the element types of the inputs. */
  key: string;
  inputs: readonly Operand[];
  params?: readonly Param[];
  outputs: readonly Result[];
  /** Rough count of arithmetic operations, deciding whether threads pay; by default the largest tensor's size. */
  work?: number;
  /** If every output is an unbroken run of the first input's elements: where each begins. Eagerly, nothing is copied. */
  offsets?: readonly number[];
  /**
   * Whether the call works element by element: inputs and outputs are then vectors (and scalars), and a traced graph
   * may see the vectors under any one shape instead, which spares it nodes that reshape.
   */
  elementwise?: boolean;
  emit(g: Emitter, inputs: readonly Value[], params: readonly Value[]): Value | readonly Value[];
}

/**
 * The first output of every graph, an empty sequence. The binding writes results in place into the tensors given for
 * them, and then still copies each into a fresh buffer for the value that `run` returns: a 4 MB product costs 0.2 ms,
 * its copy and page faults 0.8 to 3 ms. It gives up at the first output that is no tensor, so this one spares the
 * copies. Should a later version return sequences, runs get slower and stay correct.
 */
export const SENTINEL = 'done';
export const SENTINEL_NODE: Node = { op: 'SequenceEmpty', inputs: [], outputs: [SENTINEL] };
export const SENTINEL_OUTPUT: ValueInfo = { name: SENTINEL, type: 'float32', sequence: true };

const DOMAINS: Readonly<Record<string, string>> = { RotaryEmbedding: 'com.microsoft' };

/** The typed array of each type. */
export const ARRAYS: {
  readonly float32: Float32ArrayConstructor;
  readonly int32: Int32ArrayConstructor;
  readonly bool: Uint8ArrayConstructor;
} = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };

/** The bytes of whole numbers as little-endian int64. */
export function int64(values: readonly number[]): BigInt64Array {
  const words = new Int32Array(values.length * 2);
  for (let i = 0; i < values.length; i++) {
    words[2 * i] = values[i]!;
    words[2 * i + 1] = values[i]! < 0 ? -1 : 0;
  }
  return new BigInt64Array(words.buffer);
}

const LATIN1 = new TextDecoder('latin1');

/** Numbers for JSON so that no two are the same. */
function exactly(_key: string, value: unknown): unknown {
  if (typeof value !== 'number') return value;
  return Object.is(value, -0) ? '-0' : String(value);
}

/** Collects nodes and constants under fresh names. */
export class GraphBuilder implements Emitter {
  readonly nodes: Node[] = [];
  readonly initializers: Initializer[] = [];
  readonly #prefix: string;
  /** What there is already, by all that tells values apart. */
  readonly #known: Map<string, Value[]> | undefined;

  /**
   * @param options.prefix of the names, for graphs that will be joined.
   * @param options.merge whether what is the same is in the graph once: nodes of the same inputs, and constants.
   */
  constructor({ prefix = '', merge = false }: { prefix?: string; merge?: boolean } = {}) {
    this.#prefix = prefix;
    this.#known = merge ? new Map() : undefined;
  }

  op(op: string, inputs: readonly (Value | null)[], attributes?: Readonly<Record<string, Attribute>>): Value {
    return this.ops(op, inputs, 1, attributes)[0]!;
  }

  ops(
    op: string,
    inputs: readonly (Value | null)[],
    count: number,
    attributes?: Readonly<Record<string, Attribute>>,
  ): Value[] {
    const key = (): string => JSON.stringify([op, inputs, count, attributes], exactly);
    return this.#once(key, () => {
      const outputs = Array.from({ length: count }, (_, i) => `${this.#prefix}n${this.nodes.length}.${i}`);
      this.nodes.push({ op, domain: DOMAINS[op], inputs: inputs.map((name) => name ?? ''), outputs, attributes });
      return outputs;
    });
  }

  #once(key: () => string, make: () => Value[]): Value[] {
    if (this.#known === undefined) return make();
    const id = key();
    const known = this.#known.get(id) ?? make();
    this.#known.set(id, known);
    return known;
  }

  constant(type: 'float32' | 'int32' | 'int64' | 'bool', data: number | readonly number[]): Value {
    const list = typeof data === 'number' ? [data] : data;
    const array = type === 'int64' ? int64(list) : ARRAYS[type].from(list);
    return this.initializer(type, typeof data === 'number' ? [] : [list.length], array);
  }

  /** A constant tensor; `data` is copied only when the graph is encoded. */
  initializer(type: ElementType, shape: readonly number[], data: ArrayBufferView): Value {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const key = (): string => `${type}[${shape}]${LATIN1.decode(bytes)}`;
    return this.#once(key, () => {
      const name = `${this.#prefix}c${this.initializers.length}`;
      this.initializers.push({ name, type, shape, data: bytes });
      return [name];
    })[0]!;
  }

  /** A param as a constant. */
  param(param: Param): Value {
    return 'type' in param ? this.constant(param.type, param.value) : this.constant('int64', param);
  }
}

/** The element type of a param as a graph input. */
export function paramType(param: Param): ElementType {
  return 'type' in param ? param.type : 'int64';
}

/** Names of the inputs, params and outputs of an eager graph. */
export const inputName = (i: number): string => `x${i}`;
export const paramName = (i: number): string => `p${i}`;
export const outputName = (i: number): string => `y${i}`;

/** The graph of one kernel call, shapes left open, as the bytes of an ONNX model. */
export function buildModel(name: string, plan: Plan): Uint8Array<ArrayBuffer> {
  const g = new GraphBuilder();
  const params = plan.params ?? [];
  const emitted = plan.emit(
    g,
    plan.inputs.map((_, i) => inputName(i)),
    params.map((_, i) => paramName(i)),
  );
  const results = typeof emitted === 'string' ? [emitted] : emitted;
  const nodes = nameOutputs(g.nodes, results);
  const model: Model = {
    name,
    nodes: [SENTINEL_NODE, ...nodes],
    inputs: [
      ...plan.inputs.map(({ tensor }, i) => ({ name: inputName(i), type: tensor.dtype as NativeDType })),
      ...params.map((param, i) => ({ name: paramName(i), type: paramType(param) })),
    ],
    outputs: [SENTINEL_OUTPUT, ...plan.outputs.map(({ dtype }, i) => ({ name: outputName(i), type: dtype }))],
    initializers: g.initializers,
  };
  return encodeModel(model);
}

/**
 * Outputs have fixed names. A value that a node computes is renamed; one that is an input, or already an output, needs
 * a node of its own, which the runtime carries out as a copy.
 */
export function nameOutputs(nodes: readonly Node[], results: readonly Value[]): Node[] {
  const computed = new Set(nodes.flatMap(({ outputs }) => outputs));
  const names = new Map<Value, string>();
  const copies: Node[] = [];
  results.forEach((value, i) => {
    if (computed.has(value) && !names.has(value)) names.set(value, outputName(i));
    else copies.push({ op: 'Identity', inputs: [names.get(value) ?? value], outputs: [outputName(i)] });
  });
  const rename = (name: string): string => names.get(name) ?? name;
  const renamed = nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
  }));
  return [...renamed, ...copies];
}

/** Whether ONNX graphs here compute this type. */
export function isNative(dtype: DataType): dtype is NativeDType {
  return dtype === 'float32' || dtype === 'int32' || dtype === 'bool';
}
