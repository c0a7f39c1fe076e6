import type { Tensor, TensorInfo } from '@tensorflow/tfjs-core';
import { dispose, engine } from '@tensorflow/tfjs-core';
import type { OrtBackend } from './backend.ts';
import type { NativeDType, Value } from './graph.ts';
import { nameOutputs, outputName } from './graph.ts';
import type { ValueInfo } from './onnx.ts';
import { encodeModel } from './onnx.ts';
import type { NativeTensor, Session } from './session.ts';
import { loadSession, SENTINEL } from './session.ts';
import type { GraphInput, Trace } from './trace.ts';

/** A tensor that the graph computes. */
export interface Output {
  readonly value: Value;
  readonly shape: readonly number[];
  /** Its shape within the graph. */
  readonly view: readonly number[];
  readonly dtype: NativeDType;
}

/** A traced function as a loaded graph. */
export class Program {
  readonly #backend: OrtBackend;
  readonly #inputs: readonly GraphInput[];
  readonly #outputs: readonly Output[];
  readonly #session: Session | undefined;
  /** What the function found outside; the program keeps it. */
  readonly #outside: readonly Tensor[];

  constructor(backend: OrtBackend, trace: Trace, outputs: readonly Output[], name: string) {
    this.#backend = backend;
    this.#outputs = outputs;
    const values = outputs.map(({ value }) => value);
    const nodes = nameOutputs(trace.graph.nodes, values);
    const used = new Set(nodes.flatMap(({ inputs }) => inputs));
    this.#inputs = trace.inputs.filter(({ name }) => used.has(name));
    this.#outside = trace.inputs.flatMap(({ source }) => (source.from === 'outside' ? [source.tensor] : []));
    if (values.length === 0) return;
    const info = ({
      name,
      dtype,
      shape,
    }: {
      name: string;
      dtype: NativeDType;
      shape: readonly number[];
    }): ValueInfo => {
      return { name, type: dtype, shape };
    };
    const model = encodeModel({
      name,
      nodes: [{ op: 'SequenceEmpty', inputs: [], outputs: [SENTINEL] }, ...nodes],
      inputs: this.#inputs.map(info),
      outputs: [
        { name: SENTINEL, type: 'float32', sequence: true },
        ...this.#outputs.map(({ view, dtype }, i) => info({ name: outputName(i), shape: view, dtype })),
      ],
      initializers: trace.graph.initializers,
    });
    this.#session = loadSession(model, 'graph');
  }

  /** @returns the outputs, as new tensors. */
  run(args: readonly TensorInfo[], state: readonly TensorInfo[]): Tensor[] {
    const backend = this.#backend;
    const feeds: Record<string, NativeTensor> = {};
    for (const { name, source, shape, dtype } of this.#inputs) {
      feeds[name] = { type: dtype, data: this.#read(source, args, state), dims: shape, location: 'cpu' };
    }
    const fetches: Record<string, NativeTensor> = {};
    const outputs = this.#outputs.map(({ shape, view, dtype }, i) => {
      const { tensor, values } = backend.allocate(shape, dtype);
      fetches[outputName(i)] = { type: dtype, data: values, dims: view, location: 'cpu' };
      return tensor;
    });
    try {
      this.#session?.run(feeds, fetches);
    } catch (error) {
      for (const output of outputs) backend.disposeData(output.dataId, true);
      throw error;
    }
    return outputs.map((output) => engine().makeTensorFromTensorInfo(output));
  }

  #read(source: GraphInput['source'], args: readonly TensorInfo[], state: readonly TensorInfo[]) {
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
    this.#session?.dispose();
    dispose([...this.#outside]);
  }
}
