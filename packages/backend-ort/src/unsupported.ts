import type { TensorInfo } from '@tensorflow/tfjs-core';
import { engine } from '@tensorflow/tfjs-core';
import { isNative } from './graph.ts';

const describeAll = (inputs: readonly TensorInfo[]): string =>
  inputs.map(({ dtype, shape }) => `${dtype}[${shape}]`).join(', ') || 'no tensors';

/** The error for a kernel that does not take the types of its inputs. */
export function unsupported(kernel: string, inputs: readonly TensorInfo[], cause?: unknown): Error {
  const reason = cause instanceof Error ? ` (${cause.message})` : '';
  return new Error(
    `${kernel} is not computed on ${describeAll(inputs)} by the 'ort' backend${reason}. ` +
      'Cast its inputs to a type that it takes, such as float32: tf.cast, or tf.real and tf.imag of complex numbers.',
    { cause },
  );
}

/** What a cpu kernel throws at numbers it may say itself; types that it does not take it often names no shapes for. */
export function explain(kernel: string, inputs: readonly TensorInfo[], cause: unknown): unknown {
  return inputs.every(({ dtype }) => isNative(dtype)) ? cause : unsupported(kernel, inputs, cause);
}

/** Lets TensorFlow.js's error for a kernel that `backend` does not know also tell the shapes and what to do. */
export function explainUnknownKernels(backend: string): void {
  const tfjs = engine();
  const { runKernel } = tfjs;
  tfjs.runKernel = ((kernel, inputs, attrs) => {
    try {
      return runKernel.call(tfjs, kernel, inputs, attrs);
    } catch (cause) {
      const unknown = `Kernel '${kernel}' not registered for backend '${backend}'`;
      if (!(cause instanceof Error) || cause.message !== unknown) throw cause;
      const given = describeAll(Object.values(inputs).flat() as TensorInfo[]);
      throw new Error(
        `${unknown}: it was called on ${given}. Register it (tf.registerKernel), or make the call on a backend that ` +
          'has it (tf.setBackend).',
        { cause },
      );
    }
  }) as typeof runKernel;
}
