import { join } from 'node:path';
import {
  backend,
  cos,
  cumprod,
  cumsum,
  dispose,
  env,
  grads,
  type KernelBackend,
  memory,
  mul,
  pad,
  Rng,
  rotaryEmbedding,
  setBackend,
  sin,
  sum,
  type Tensor,
  tensor1d,
  tidy,
} from '@ashlar/tensor';
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
  it('gives the golden numbers of LoRA, the encodings and PosFormer', { timeout: 240_000 }, async () => {
    const { entries } = await loadRegistry();
    const paths = ['peft/test/golden/lora', 'encodings/test/golden', 'attention/test/golden/posformer'].map((path) =>
      join(root, 'packages', path),
    );
    const lines: string[] = [];
    const totals = await runGolden({ paths, backends: ['webgpu'], entries, log: (line) => void lines.push(line) });
    expect(lines.filter((line) => !READ_AT_ONCE.test(line))).toEqual([]);
    expect(totals.failed).toBe(lines.length);
    expect(totals.passed).toBeGreaterThanOrEqual(65);
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

  it.each([
    ['rotaryEmbedding', () => rotary(false)],
    ['rotaryEmbedding, interleaved', () => rotary(true)],
    [
      'pad of five axes',
      () =>
        pad(
          new Rng(1).normal([2, 3, 2, 4, 5]),
          [
            [0, 0],
            [0, 0],
            [1, 2],
            [0, 0],
            [0, 0],
          ],
          7,
        ),
    ],
    ...Object.entries({ cumsum, cumprod }).flatMap(([name, op]) =>
      [true, false].map(
        (exclusive) =>
          [
            `reversed ${name} of several lengths${exclusive ? ', exclusive' : ''}`,
            () => [3, 7, 12].map((n) => op(new Rng(n).normal([2, n, 3]), 1, exclusive, true)),
          ] as const,
      ),
    ),
  ] as [string, () => Tensor | Tensor[]][])('computes %s as cpu does', async (_name, compute) => {
    const run = async (name: string): Promise<number[][]> => {
      await useBackend(name);
      const outputs = [tidy(compute)].flat();
      const values = await Promise.all(outputs.map(async (output) => [...output.shape, ...(await output.data())]));
      dispose(outputs);
      return values;
    };
    const expected = await run('cpu');
    for (const [i, values] of (await run('webgpu')).entries()) {
      expect(values.length).toBe(expected[i].length);
      for (const [j, value] of values.entries()) expect(Math.abs(value - expected[i][j])).toBeLessThan(1e-4);
    }
  });
});

/** A rotation and the gradients of all that goes into it. */
function rotary(interleaved: boolean): Tensor[] {
  const [x, angles] = [new Rng(1).normal([2, 3, 40, 6]), new Rng(2).normal([40, 3])];
  const turn = (x: Tensor, angles: Tensor): Tensor => rotaryEmbedding(x, cos(angles), sin(angles), { interleaved });
  return [turn(x, angles), ...grads((x, angles) => sum(mul(x, turn(x, angles))))([x, angles])];
}

/** What must be the same from step to step. */
function gpuMemory(): { numTensors: number; bytes: number } {
  const { numTensors } = memory();
  const { numBytesInGPU } = (backend() as KernelBackend).memory() as unknown as { numBytesInGPU: number };
  return { numTensors, bytes: numBytesInGPU };
}
