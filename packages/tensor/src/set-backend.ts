import { setBackend as setTfjsBackend } from '@tensorflow/tfjs-core';
import { registerPreciseSine } from './webgpu/sine.ts';

let mended = false;

/**
 * As TensorFlow.js's own; the first time that `'webgpu'` is set, its kernels that are too imprecise for training are
 * replaced.
 * @returns whether the backend is there and in use.
 */
export async function setBackend(name: string): Promise<boolean> {
  const isSet = await setTfjsBackend(name);
  if (isSet && name === 'webgpu' && !mended) {
    registerPreciseSine();
    mended = true;
  }
  return isSet;
}
