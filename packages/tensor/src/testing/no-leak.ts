import { dispose, memory, type TensorContainer } from '@tensorflow/tfjs-core';

/**
 * Checks that `f` leaves no tensors behind but those that it returns, which are disposed of here. It runs twice, so that
 * what the first call puts into caches does not count.
 * @throws Error giving the number of tensors left behind.
 */
export function expectNoLeak(f: () => TensorContainer | undefined | void): void {
  dispose(f() ?? []);
  const before = memory();
  dispose(f() ?? []);
  const after = memory();
  const tensors = after.numTensors - before.numTensors;
  const buffers = after.numDataBuffers - before.numDataBuffers;
  if (tensors !== 0 || buffers !== 0) {
    throw new Error(`The call left ${tensors} tensors and ${buffers} data buffers behind.`);
  }
}
