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

/** WebGPU in Node is Dawn, from the npm package `webgpu`, which is too large to be a dependency of the workspace. */
async function loadWebGpu(): Promise<void> {
  const optional = async <T>(name: string): Promise<T> => {
    try {
      return (await import(name)) as T;
    } catch (cause) {
      throw new Error(`The webgpu backend needs ${name} here: pnpm add --workspace-root --save-dev ${name}`, { cause });
    }
  };
  const dawn = await optional<{ create(flags: string[]): unknown; globals: Record<string, unknown> }>('webgpu');
  Object.assign(globalThis, dawn.globals);
  Object.defineProperty(globalThis, 'navigator', { value: { gpu: dawn.create([]) }, configurable: true });
  await optional('@tensorflow/tfjs-backend-webgpu');
}
