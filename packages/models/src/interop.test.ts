import '@ashlar/backend-ort';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { setBackend } from '@ashlar/tensor';
import { expect, it } from 'vitest';
import { loadModel } from './load.ts';
import { expectClose, logitsOf } from './testing/logits.ts';

it.each(['llama', 'gpt2'])('a %s that transformers saved gives the logits that transformers computes', async (name) => {
  await setBackend('ort');
  const folder = fileURLToPath(new URL(`../test/fixtures/${name}`, import.meta.url));
  const { ids, logits } = JSON.parse(await readFile(`${folder}/expected.json`, 'utf8'));
  const model = await loadModel(folder);
  expect(Math.max(...logits.flat(2))).toBeGreaterThan(1);
  expectClose(logitsOf(model, ids), logits);
  model.dispose();
});
