import { registerKernel, setBackend as setTfjsBackend, unregisterKernel } from '@tensorflow/tfjs-core';
import { cumulative } from './webgpu/cumulative.ts';
import { padOfJoinedAxes } from './webgpu/pad.ts';
import { rotaryEmbeddingKernel } from './webgpu/rotary-embedding.ts';
import { preciseSine } from './webgpu/sine.ts';

let mended = false;

/**
 * As TensorFlow.js's own; the first time that `'webgpu'` is set, its kernels that are wrong or too imprecise for training
 * are replaced, and those of this package's operations added.
 * @returns whether the backend is there and in use.
 */
export async function setBackend(name: string): Promise<boolean> {
  const isSet = await setTfjsBackend(name);
  if (isSet && name === 'webgpu' && !mended) {
    const replacements = [...preciseSine, padOfJoinedAxes(), cumulative('Cumsum'), cumulative('Cumprod')];
    for (const { kernelName } of replacements) unregisterKernel(kernelName, name);
    for (const config of [...replacements, rotaryEmbeddingKernel]) registerKernel(config);
    mended = true;
  }
  return isSet;
}
