import '@ashlar/backend-ort';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type CausalLM, loadModel } from '@ashlar/models';
import { loadLora } from '@ashlar/peft';
import { disposeMap, loadSafetensors, memory, setBackend, type Tensor, tensor, tidy } from '@ashlar/tensor';
import { beforeAll, expect, it } from 'vitest';

const FIXTURES = fileURLToPath(new URL('../peft/fixtures', import.meta.url));
const files = await readdir(FIXTURES, { recursive: true });
const adapters = files.filter((file) => file.endsWith('adapter_config.json')).map((file) => dirname(file));

let ids: Tensor;
beforeAll(async () => {
  await setBackend('ort');
  ids = tensor(JSON.parse(await readFile(join(FIXTURES, 'ids.json'), 'utf8')), undefined, 'int32');
});

const logitsOf = (model: CausalLM): Float32Array => tidy(() => Float32Array.from(model.apply(ids).dataSync()));

const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  expect(a.length).toBe(b.length);
  return Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i])));
};

it.each(adapters)('%s: an adapter that peft saved gives the logits that peft computes', async (adapter) => {
  const before = memory().numTensors;
  const expected = await loadSafetensors(join(FIXTURES, adapter, 'expected.safetensors'));
  const logits = expected.get('logits')?.dataSync() as Float32Array;
  const model = await loadModel(join(FIXTURES, dirname(adapter)));
  model.eval();
  const base = logitsOf(model);
  const handle = await loadLora(model, join(FIXTURES, adapter));
  expect(largestDifference(base, logits)).toBeGreaterThan(0.05);
  expect(largestDifference(logitsOf(model), logits)).toBeLessThan(1e-4);
  handle.unload();
  expect(largestDifference(logitsOf(model), base)).toBeLessThan(1e-4);
  model.dispose();
  disposeMap(expected);
  expect(memory().numTensors).toBe(before);
});
