import '@ashlar/backend-ort';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attend, Linear, mergeHeads, splitHeads } from '@ashlar/nn';
import {
  add,
  disposeMap,
  loadSafetensors,
  Module,
  matMul,
  Rng,
  setBackend,
  stateDict,
  sub,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { attach } from '../method.ts';
import { loadLora, lora } from './lora.ts';

const DIM = 8;

/** Attention as diffusion models name it, over itself or over a condition. */
class Attention extends Module<[Tensor, Tensor], Tensor> {
  readonly to_q: Linear;
  readonly to_k: Linear;
  readonly to_v: Linear;
  readonly to_out: Linear[];

  constructor(rng: Rng) {
    super();
    const [q, k, v, out] = ['q', 'k', 'v', 'out'].map((name) => new Linear(DIM, DIM, { rng: rng.fork(name) }));
    [this.to_q, this.to_k, this.to_v] = [q, k, v];
    this.to_out = [out];
  }

  forward(x: Tensor, context: Tensor): Tensor {
    const [q, k, v] = [this.to_q.apply(x), this.to_k.apply(context), this.to_v.apply(context)];
    const mixed = attend(splitHeads(q, 2), splitHeads(k, 2), splitHeads(v, 2), {});
    return add(x, this.to_out[0].apply(mergeHeads(mixed)));
  }
}

class Denoiser extends Module<[Tensor, Tensor], Tensor> {
  readonly blocks: { attn1: Attention; attn2: Attention; ff: Linear }[];

  constructor(rng: Rng) {
    super();
    this.blocks = [0, 1].map((i) => ({
      attn1: new Attention(rng.fork(`self ${i}`)),
      attn2: new Attention(rng.fork(`cross ${i}`)),
      ff: new Linear(DIM, DIM, { rng: rng.fork(`ff ${i}`) }),
    }));
  }

  forward(x: Tensor, condition: Tensor): Tensor {
    return this.blocks.reduce((h, { attn1, attn2, ff }) => ff.apply(attn2.apply(attn1.apply(h, h), condition)), x);
  }
}

let dir: string;
beforeAll(async () => {
  await setBackend('ort');
  dir = await mkdtemp(join(tmpdir(), 'plug-in-'));
});
afterAll(() => rm(dir, { recursive: true }));

it('adapts the attention projections of a denoiser, and plugs into another of the same shape', async () => {
  const rng = new Rng(5);
  const [x, condition] = [rng.fork('x').normal([1, 3, DIM]), rng.fork('c').normal([1, 2, DIM])];
  const trained = new Denoiser(rng.fork('trained'));
  const adapter = attach(trained, lora({ r: 4, loraAlpha: 4, targetModules: 'attention' }));
  const paths = ['to_q', 'to_k', 'to_v', 'to_out.0'];
  expect([...adapter.layers.keys()].sort()).toEqual(
    [0, 1].flatMap((i) => ['attn1', 'attn2'].flatMap((a) => paths.map((p) => `blocks.${i}.${a}.${p}`))).sort(),
  );
  expect([...adapter.layers.values()].every((layer) => layer.adapter('default').scaling === 1)).toBe(true);
  for (const [name, parameter] of adapter.parameters()) {
    parameter.assign(rng.fork(name).normal(parameter.shape as [number], { std: 0.3 }));
  }
  await adapter.save(dir);
  const tensors = await loadSafetensors(join(dir, 'adapter_model.safetensors'));
  expect(tensors.has('base_model.model.blocks.1.attn2.to_out.0.lora_B.weight')).toBe(true);

  const other = new Denoiser(rng.fork('other'));
  const run = (): number[] => tidy(() => Array.from(other.apply(x, condition).dataSync()));
  const weights = (): number[][] => [...stateDict(other).values()].map((value) => Array.from(value.dataSync()));
  const [plain, before] = [run(), weights()];
  const plugged = await loadLora(other, dir);
  const smooth = run();
  expect(Math.max(...smooth.map((value, i) => Math.abs(value - plain[i])))).toBeGreaterThan(0.1);
  plugged.merge();
  expect(Math.max(...run().map((value, i) => Math.abs(value - smooth[i])))).toBeLessThan(1e-5);
  const [A, B] = ['lora_A', 'lora_B'].map((f) => tensors.get(`base_model.model.blocks.0.attn1.to_q.${f}.weight`));
  const delta = tidy(() =>
    sub(
      other.blocks[0].attn1.getParameter('to_q.base_layer.weight').stored,
      matMul(B as Tensor, A as Tensor),
    ).dataSync(),
  );
  const names = [...stateDict(other).keys()];
  plugged.unload();
  const original = weights()[[...stateDict(other).keys()].indexOf('blocks.0.attn1.to_q.weight')];
  expect(names).toContain('blocks.0.attn1.to_q.base_layer.weight');
  expect(Math.max(...original.map((value, i) => Math.abs(value - delta[i])))).toBeLessThan(1e-6);
  for (const [i, values] of weights().entries()) {
    expect(Math.max(...values.map((value, j) => Math.abs(value - before[i][j])))).toBeLessThan(1e-6);
  }
  disposeMap(tensors);
});
