import type { TensorInfo } from '@tensorflow/tfjs-core';
import { clone, engine, Tensor } from '@tensorflow/tfjs-core';
import type { OrtBackend } from './backend.ts';
import { isNative } from './graph.ts';
import { sizeOf } from './kernel.ts';
import type { Trace } from './trace.ts';
import { rebuild } from './tree.ts';

/**
 * Let kernels add to `trace` while `body` runs; its tensors are disposed of afterwards. `restore` runs in any case,
 * before they are; on an error the trace is disposed of.
 */
export function record<T>(backend: OrtBackend, trace: Trace, body: () => T, restore?: () => void): T {
  backend.trace = trace;
  engine().startScope('jit');
  try {
    return body();
  } catch (error) {
    trace.dispose();
    throw error;
  } finally {
    backend.trace = undefined;
    restore?.();
    engine().endScope();
  }
}

/** `args` with a stand-in for each of its `tensors`; theirs may be other shapes. */
export function standIns<Args>(
  trace: Trace,
  args: Args,
  tensors: readonly Pick<TensorInfo, 'shape' | 'dtype'>[],
): Args {
  let index = 0;
  return rebuild(args, () => {
    const tensor = tensors[index]!;
    const { shape, dtype } = tensor;
    const source = { from: 'argument', index: index++ } as const;
    if (!isNative(dtype)) throw new TypeError(`argument ${index} is ${dtype}[${shape}]; jit takes no ${dtype} tensors`);
    if (sizeOf(shape) === 0 && tensor instanceof Tensor) return clone(tensor);
    return engine().makeTensorFromTensorInfo(trace.input(source, shape, dtype, `argument ${index}`));
  });
}
