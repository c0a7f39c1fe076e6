import type { ElementType } from './onnx.ts';

/** A tensor as ONNX Runtime's binding takes it: it reads exactly these properties, so no class instance is needed. */
export interface NativeTensor {
  type: ElementType;
  data: Float32Array | Int32Array | Uint8Array | BigInt64Array;
  dims: readonly number[];
  location: 'cpu';
}

export type Tensors = Record<string, NativeTensor>;

/** A graph ready to run. */
export interface LoadedGraph {
  /** Read `feeds` in place and write each result into the tensor given for it in `fetches`. */
  run(feeds: Tensors, fetches: Tensors): void;
  dispose(): void;
}

/** What runs the graphs of single kernels, at once. */
export interface Runtime {
  load(model: Uint8Array<ArrayBuffer>, kind: 'kernel' | 'parallel'): LoadedGraph;
  /** The most bytes that may wait in the buffer pool. */
  poolLimit: number;
}
