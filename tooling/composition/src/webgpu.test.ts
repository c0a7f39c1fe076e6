import { join } from 'node:path';
import { backend, cos, env, type KernelBackend, memory, setBackend, sin, tensor1d } from '@ashlar/tensor';
import { describe, expect, it } from 'vitest';
import { loadRegistry } from '../../golden/src/registry.ts';
import { runGolden } from '../../golden/src/run.ts';
import { useBackend } from '../../workspace/src/backend.ts';
import { root } from '../../workspace/src/packages.ts';
import { llama, trainingSteps } from '../browser/llama.ts';

const reason = await useBackend('webgpu').then(
  () => undefined,
  (error: Error) => error.message,
);
if (reason !== undefined) {
  if (process.env.ASHLAR_REQUIRE_BROWSER === '1') throw new Error(reason);
  console.warn(`The tests on WebGPU are skipped: ${reason}`);
}

/** Dawn reads nothing back at once, as a singular value decomposition must. */
const READ_AT_ONCE = /lora\/pissa_init .*OffscreenCanvas is not defined/;

// Small tensors, too, go to the GPU, whose kernels are what is tested.
env().set('WEBGPU_CPU_FORWARD', false);

describe.skipIf(reason !== undefined)('WebGPU in Node (Dawn)', () => {
  it('gives the golden numbers of LoRA and the encodings', { timeout: 240_000 }, async () => {
    const { entries } = await loadRegistry();
    const paths = ['packages/peft/test/golden/lora', 'packages/encodings/test/golden'].map((path) => join(root, path));
    const lines: string[] = [];
    const totals = await runGolden({ paths, backends: ['webgpu'], entries, log: (line) => void lines.push(line) });
    expect(lines.filter((line) => !READ_AT_ONCE.test(line))).toEqual([]);
    expect(totals.failed).toBe(lines.length);
    expect(totals.passed).toBeGreaterThanOrEqual(22);
  });

  it.each(['full', 'LoRA'] as const)(
    'trains a small Llama (%s) as cpu does, and leaks nothing',
    { timeout: 240_000 },
    async (what) => {
      await setBackend('cpu');
      const expected = await trainingSteps(llama(what), 2);
      await useBackend('webgpu');
      const actual = await trainingSteps(llama(what), 2);
      for (const [i, loss] of actual.losses.entries()) {
        expect(Math.abs(loss - expected.losses[i]), `loss of step ${i + 1}`).toBeLessThan(1e-3);
      }
      let largest = 0;
      for (const [name, values] of expected.weights) {
        for (const [i, value] of values.entries()) {
          largest = Math.max(largest, Math.abs(value - (actual.weights.get(name) as Float32Array)[i]));
        }
      }
      expect(largest).toBeLessThan(1e-3);

      const start = gpuMemory();
      const model = llama(what);
      await trainingSteps(model, 1, false);
      const before = gpuMemory();
      await trainingSteps(model, 2, false);
      expect(gpuMemory()).toEqual(before);
      model.dispose();
      expect(gpuMemory().numTensors).toBe(start.numTensors);
    },
  );

  it('has a sine and a cosine of float32 precision', async () => {
    await useBackend('webgpu');
    const numbers = [0, 0.1, 1, -1, Math.PI / 2, Math.PI, -4.7, 100.25, -1000.5, 12345.678, 60000];
    const x = tensor1d(numbers);
    for (const [op, expected] of [
      [sin, Math.sin],
      [cos, Math.cos],
    ] as const) {
      const y = op(x);
      const values = await y.data();
      y.dispose();
      for (const [i, value] of values.entries()) {
        expect(Math.abs(value - expected(Math.fround(numbers[i]))), `of ${numbers[i]}`).toBeLessThan(3e-7);
      }
    }
    x.dispose();
  });
});

/** What must be the same from step to step. */
function gpuMemory(): { numTensors: number; bytes: number } {
  const { numTensors } = memory();
  const { numBytesInGPU } = (backend() as KernelBackend).memory() as unknown as { numBytesInGPU: number };
  return { numTensors, bytes: numBytesInGPU };
}
