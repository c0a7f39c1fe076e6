import { existsSync } from 'node:fs';
import '@tensorflow/tfjs-backend-cpu';
import { findBackendFactory, setBackend } from '@ashlar/tensor';

/** Each backend by name, with what loads it. */
const loaders: Record<string, () => Promise<unknown>> = {
  cpu: async () => {},
  ort: () => import('@ashlar/backend-ort'),
  webgpu: loadWebGpu,
};

export const backendNames: readonly string[] = Object.keys(loaders);

/** Makes `name` the active TensorFlow.js backend, loading it on first use. */
export async function useBackend(name: string): Promise<void> {
  const load = loaders[name];
  if (!load) throw new Error(`There is no backend '${name}': choose one of ${backendNames.join(', ')}.`);
  if (!findBackendFactory(name)) await load();
  if (!(await setBackend(name))) throw new Error(`The backend '${name}' does not start on this machine.`);
}

/** Where Debian's chromium keeps SwiftShader, which is Vulkan without a GPU. */
const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** WebGPU in Node is Dawn, from the npm package `webgpu`. */
async function loadWebGpu(): Promise<void> {
  if (existsSync(SWIFTSHADER)) process.env.VK_ICD_FILENAMES ??= SWIFTSHADER;
  const { create, globals } = await import('webgpu');
  Object.assign(globalThis, globals);
  const gpu = create([]);
  // The adapter lives no longer than `gpu` does.
  Object.defineProperty(globalThis, 'navigator', { value: { gpu }, configurable: true });
  if ((await gpu.requestAdapter()) === null) {
    throw new Error("WebGPU finds no adapter: there is no GPU, and no SwiftShader (Debian's package chromium).");
  }
  await import('@tensorflow/tfjs-backend-webgpu');
}
