import type { TensorInfo } from '@tensorflow/tfjs-core';
import { util } from '@tensorflow/tfjs-core';
import type { OrtBackend } from './backend.ts';
import type { Operand, Plan } from './graph.ts';

export type Inputs = Record<string, TensorInfo>;
type Out = TensorInfo | TensorInfo[];

/** One TensorFlow.js kernel as this backend computes it. */
export interface Kernel {
  /** Its name in TensorFlow.js. */
  name: string;
  /**
   * Calls with less `size` than this run in JavaScript, where they take less time than entering the native library
   * does. Measured: see bench/.
   */
  threshold: number;
  /** Throw if the values of an input are out of range, where ONNX would read them otherwise. */
  check?(backend: OrtBackend, inputs: Inputs, attrs: Record<string, unknown>): void;
  /** What the threshold is compared with: by default the elements of the largest input. */
  size?(inputs: Inputs, attrs: Record<string, unknown>): number;
  /**
   * The call as ONNX nodes, or `undefined` where ONNX does not compute what TensorFlow.js does (some type or
   * attribute): the cpu kernel is then used.
   */
  plan(inputs: Inputs, attrs: Record<string, unknown>): Plan | undefined;
  /** A JavaScript version to use below the threshold in place of the cpu kernel. `undefined` passes the call on. */
  small?(backend: OrtBackend, inputs: Inputs, attrs: Record<string, unknown>): Out | undefined;
}

/** Typed as it is written, untyped as it is registered: TensorFlow.js passes inputs and attributes by name. */
export interface TypedKernel<I, A> {
  name: string;
  threshold: number;
  check?(backend: OrtBackend, inputs: I, attrs: A): void;
  size?(inputs: I, attrs: A): number;
  plan(inputs: I, attrs: A): Plan | undefined;
  small?(backend: OrtBackend, inputs: I, attrs: A): Out | undefined;
}

/** Declare a kernel with the types of its inputs and attributes. */
export function kernel<I, A = object>(spec: TypedKernel<I, A>): Kernel {
  return spec as unknown as Kernel;
}

/** Elements from which an elementwise kernel is worth a native run. */
export const ELEMENTWISE_THRESHOLD = 1024;

/** The threshold of kernels for which a JavaScript loop is as good: their nodes serve larger graphs. */
export const IN_JAVASCRIPT: number = Number.POSITIVE_INFINITY;

export const sizeOf: (shape: readonly number[]) => number = (shape) => {
  let size = 1;
  for (const n of shape) size *= n;
  return size;
};

/** `tensor` as it is. */
export function whole(tensor: TensorInfo): Operand {
  return { tensor, shape: tensor.shape };
}

/** `tensor` as a vector: elementwise kernels need no more, and one graph then serves every rank. */
export function flat(tensor: TensorInfo): Operand {
  return { tensor, shape: [sizeOf(tensor.shape)] };
}

/** `shape` folded around `axis`: the sizes before it, of it, after it. */
export function around(shape: readonly number[], axis: number): [number, number, number] {
  return [sizeOf(shape.slice(0, axis)), shape[axis]!, sizeOf(shape.slice(axis + 1))];
}

/** A possibly negative axis, counted from the front. */
export function axisOf(axis: number, shape: readonly number[]): number {
  return util.parseAxisParam(axis, shape as number[])[0]!;
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}
