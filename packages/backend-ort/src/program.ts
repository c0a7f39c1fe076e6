import type { DataId, TensorInfo } from '@tensorflow/tfjs-core';
import type { NativeArray, OrtBackend } from './backend.ts';
import type { NativeDType, Value } from './graph.ts';
import { nameOutputs, outputName, SENTINEL_NODE, SENTINEL_OUTPUT } from './graph.ts';
import { neededNodes } from './hoist.ts';
import type { ValueInfo } from './onnx.ts';
import { encodeModel } from './onnx.ts';
import type { GraphInput, Trace } from './trace.ts';

/** A tensor that the graph computes. */
export interface Output {
  readonly value: Value;
  readonly shape: readonly number[];
  /** Its shape within the graph. */
  readonly view: readonly number[];
  readonly dtype: NativeDType;
}

/** The numbers of an input for one run. */
export interface Feed {
  readonly name: Value;
  readonly dtype: NativeDType;
  readonly shape: readonly number[];
  readonly data: NativeArray;
}

/** What a graph reads besides the values that are kept for it. */
export interface Inputs {
  readonly args: readonly TensorInfo[];
  readonly state: readonly TensorInfo[];
}

/** A graph of a traced function. */
export class Program {
  readonly outputs: readonly Output[];
  readonly #backend: OrtBackend;
  readonly #inputs: readonly GraphInput[];
  #model: Uint8Array<ArrayBuffer> | undefined;

  /** @param kept values that are given to it under their names. */
  constructor(
    backend: OrtBackend,
    { graph, inputs }: Trace,
    outputs: readonly Output[],
    name: string,
    kept: readonly Output[] = [],
  ) {
    this.#backend = backend;
    this.outputs = outputs;
    const values = outputs.map(({ value }) => value);
    const given = new Set(kept.map(({ value }) => value));
    const nodes = nameOutputs(
      neededNodes(graph.nodes, values, (value) => given.has(value)),
      values,
    );
    const used = new Set(nodes.flatMap((node) => node.inputs));
    this.#inputs = inputs.filter((input) => used.has(input.name));
    this.#model = encodeModel({
      name,
      nodes: backend.sentinel ? [SENTINEL_NODE, ...nodes] : nodes,
      inputs: [
        ...this.#inputs.map((input) => ({ name: input.name, type: input.dtype, shape: input.shape })),
        ...kept.map(({ value, view, dtype }) => ({ name: value, type: dtype, shape: view })),
      ],
      outputs: [
        ...(backend.sentinel ? [SENTINEL_OUTPUT] : []),
        ...outputs.map(({ view, dtype }, i): ValueInfo => ({ name: outputName(i), type: dtype, shape: view })),
      ],
      initializers: graph.initializers.filter((constant) => used.has(constant.name)),
    });
  }

  /** The ONNX file, for its runtime to load; given up then. */
  takeModel(): Uint8Array<ArrayBuffer> {
    const model = this.#model;
    if (model === undefined) throw new Error('The graph has been loaded already.');
    this.#model = undefined;
    return model;
  }

  feeds(from: Inputs): Feed[] {
    return this.#inputs.map(({ name, source, shape, dtype }) => {
      return { name, shape, dtype, data: this.#read(source, from) };
    });
  }

  /** The state that it reads, by its data. */
  readState({ state }: Inputs): DataId[] {
    return this.#inputs.flatMap(({ source }) => (source.from === 'state' ? [state[source.index]!.dataId] : []));
  }

  #read(source: GraphInput['source'], { args, state }: Inputs): NativeArray {
    switch (source.from) {
      case 'argument':
        return this.#backend.values(args[source.index]!);
      case 'state':
        return this.#backend.values(state[source.index]!);
      case 'outside':
        return this.#backend.values(source.tensor);
      case 'host':
        return source.make();
    }
  }
}

/** Whether tensors have the data `before` of others. */
export function sameData(data: readonly DataId[], before: readonly DataId[] | undefined): boolean {
  return before !== undefined && data.every((dataId, i) => dataId === before[i]);
}
