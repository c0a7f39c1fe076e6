import type { Tensor, TensorInfo } from '@tensorflow/tfjs-core';
import { dispose } from '@tensorflow/tfjs-core';
import type { NativeArray, OrtBackend } from './backend.ts';
import type { NativeDType, Value } from './graph.ts';
import { nameOutputs, outputName, SENTINEL_NODE, SENTINEL_OUTPUT } from './graph.ts';
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

/** A traced function as a graph. */
export class Program {
  readonly outputs: readonly Output[];
  readonly #backend: OrtBackend;
  readonly #inputs: readonly GraphInput[];
  /** What the function found outside; the program keeps it. */
  readonly #outside: readonly Tensor[];
  #model: Uint8Array<ArrayBuffer> | undefined;

  constructor(backend: OrtBackend, trace: Trace, outputs: readonly Output[], name: string) {
    this.#backend = backend;
    this.outputs = outputs;
    const values = outputs.map(({ value }) => value);
    const nodes = nameOutputs(trace.graph.nodes, values);
    const used = new Set(nodes.flatMap(({ inputs }) => inputs));
    this.#inputs = trace.inputs.filter((input) => used.has(input.name));
    this.#outside = trace.inputs.flatMap(({ source }) => (source.from === 'outside' ? [source.tensor] : []));
    this.#model = encodeModel({
      name,
      nodes: backend.sentinel ? [SENTINEL_NODE, ...nodes] : nodes,
      inputs: this.#inputs.map((input) => ({ name: input.name, type: input.dtype, shape: input.shape })),
      outputs: [
        ...(backend.sentinel ? [SENTINEL_OUTPUT] : []),
        ...outputs.map(({ view, dtype }, i): ValueInfo => ({ name: outputName(i), type: dtype, shape: view })),
      ],
      initializers: trace.graph.initializers,
    });
  }

  /** The ONNX file, for its runtime to load; given up then. */
  takeModel(): Uint8Array<ArrayBuffer> {
    const model = this.#model;
    if (model === undefined) throw new Error('The graph has been loaded already.');
    this.#model = undefined;
    return model;
  }

  feeds(args: readonly TensorInfo[], state: readonly TensorInfo[]): Feed[] {
    return this.#inputs.map(({ name, source, shape, dtype }) => {
      return { name, shape, dtype, data: this.#read(source, args, state) };
    });
  }

  #read(source: GraphInput['source'], args: readonly TensorInfo[], state: readonly TensorInfo[]): NativeArray {
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

  dispose(): void {
    dispose([...this.#outside]);
  }
}
