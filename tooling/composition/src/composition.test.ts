import '@ashlar/backend-ort';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  Alibi,
  Clex,
  Dpe,
  DualChunk,
  LearnedAbsolute,
  MdLrpe,
  Nope,
  PositionalScores,
  ReRope,
  Rope,
  type RopeScaling,
  SelfExtend,
  SeqPe,
  type SeqPeOptions,
  Sinusoidal,
  T5RelativeBias,
} from '@ashlar/encodings';
import { type CausalLM, createModel, loadModel, saveModel } from '@ashlar/models';
import { KeyValueCache } from '@ashlar/nn';
import { type AdapterHandle, attach, loadAdapter, lofit, lora, type Method, ramt, sara, svfit } from '@ashlar/peft';
import {
  abs,
  add,
  clone,
  crossEntropy,
  disposeMap,
  keep,
  lossAndGrads,
  max,
  memory,
  type PositionEncoding,
  Rng,
  setBackend,
  slice,
  sub,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const VOCAB = 17;
const DIM = 16;
const HEADS = 4;
const HEAD_DIM = DIM / HEADS;
const SEQ = 6;
const rng = new Rng('composition');

const KV_HEADS: Record<string, number> = { llama: 2, gpt2: HEADS };

const MODELS: Record<string, object> = {
  llama: {
    model_type: 'llama',
    vocab_size: VOCAB,
    hidden_size: DIM,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: HEADS,
    num_key_value_heads: KV_HEADS.llama,
    max_position_embeddings: 32,
    initializer_range: 0.3,
  },
  gpt2: {
    model_type: 'gpt2',
    vocab_size: VOCAB,
    n_embd: DIM,
    n_head: HEADS,
    n_layer: 2,
    n_positions: 32,
    initializer_range: 0.3,
  },
};

const scaled = (scaling: RopeScaling): Rope => new Rope({ headDim: HEAD_DIM, scaling, maxPositions: 4 });

const seqPe = (mode: SeqPeOptions['mode'], kvHeads: number): SeqPe =>
  new SeqPe({
    mode,
    encoder: { dim: DIM, heads: 2 },
    maxPosition: 32,
    heads: HEADS,
    headDim: HEAD_DIM,
    kvHeads,
    rng: rng.fork('seqpe'),
  });

const ENCODINGS: Record<string, (kvHeads: number) => PositionEncoding | undefined> = {
  'own encoding': () => undefined,
  NoPE: () => new Nope(),
  sinusoidal: () => new Sinusoidal({ dim: DIM }),
  learned: () => new LearnedAbsolute({ maxPositions: 32, dim: DIM, rng: rng.fork('learned') }),
  'positional scores': () =>
    new PositionalScores({ maxPositions: 32, heads: HEADS, dim: 4, layers: 2, rng: rng.fork('scores') }),
  'RoPE (interleaved)': () => new Rope({ headDim: HEAD_DIM, layout: 'interleaved' }),
  'RoPE (linear)': () => scaled({ rope_type: 'linear', factor: 2 }),
  'RoPE (ntk)': () => scaled({ rope_type: 'ntk', factor: 2 }),
  'RoPE (dynamic)': () => scaled({ rope_type: 'dynamic', factor: 2 }),
  'RoPE (yarn)': () => scaled({ rope_type: 'yarn', factor: 2 }),
  'RoPE (llama3)': () =>
    scaled({
      rope_type: 'llama3',
      factor: 2,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 4,
    }),
  CLEX: () => new Clex({ headDim: HEAD_DIM, originalLength: 4, stepSize: 0.5, rng: rng.fork('clex') }),
  'Self-Extend': () => new SelfExtend({ headDim: HEAD_DIM, window: 2, group: 2 }),
  ReRoPE: () => new ReRope({ headDim: HEAD_DIM, window: 2 }),
  'dual chunk': () => new DualChunk({ headDim: HEAD_DIM, chunkSize: 4, localWindow: 1 }),
  DPE: () => new Dpe({ headDim: HEAD_DIM, window: 2, scales: [2, 1] }),
  'MD-LRPE': () => new MdLrpe({ headDim: HEAD_DIM }),
  ALiBi: () => new Alibi({ heads: HEADS }),
  'T5 bias': () => new T5RelativeBias({ heads: HEADS, rng: rng.fork('t5') }),
  'SeqPE (input_add)': (kvHeads) => seqPe('input_add', kvHeads),
  'SeqPE (attn_mul)': (kvHeads) => seqPe('attn_mul', kvHeads),
  'SeqPE (attn_add)': (kvHeads) => seqPe('attn_add', kvHeads),
  'SeqPE (attn_scalar)': (kvHeads) => seqPe('attn_scalar', kvHeads),
};

/** In those, angles depend on the length, so a token with a cache has another history than one in a full pass. */
const BY_LENGTH = ['RoPE (dynamic)', 'CLEX'];

const ALL = { r: 2, targetModules: 'all-linear' };

const ADAPTERS: Record<string, Method<AdapterHandle>> = {
  LoRA: lora(ALL),
  rsLoRA: lora({ ...ALL, useRslora: true }),
  DoRA: lora({ ...ALL, useDora: true }),
  PiSSA: lora({ ...ALL, initLoraWeights: 'pissa' }),
  OLoRA: lora({ ...ALL, initLoraWeights: 'olora' }),
  SVFit: svfit(ALL),
  'R-AMT': ramt({ targetModules: 'all-linear' }),
  SaRA: sara({ fraction: 0.1 }),
  // By its defaults it starts a little beside the base.
  LoFiT: lofit({ initStd: 0 }),
};

let ids: Tensor;
let folder: string;
beforeAll(async () => {
  await setBackend('ort');
  ids = rng.fork('ids').integers([2, SEQ], 0, VOCAB);
  folder = await mkdtemp(join(tmpdir(), 'composition-'));
});
afterAll(() => rm(folder, { recursive: true }));

const logits = (model: CausalLM): Tensor => model.apply(ids);
const distance = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);

/** The logits of each token as it is decoded with a cache. */
function decoded(model: CausalLM): Tensor {
  const cache = new KeyValueCache();
  const last = tidy(() => {
    let out: Tensor | undefined;
    for (let i = 0; i < SEQ; i++) out = model.apply(slice(ids, [0, i], [-1, 1]), { cache });
    return out as Tensor;
  });
  cache.dispose();
  return last;
}

const cases = Object.keys(MODELS).flatMap((model) =>
  Object.keys(ENCODINGS).flatMap((encoding) => Object.keys(ADAPTERS).map((adapter) => ({ model, encoding, adapter }))),
);

describe('the composition matrix', () => {
  it.each(cases)('$model with $encoding and $adapter', async ({ model: modelName, encoding, adapter }) => {
    const before = memory().numTensors;
    const position = ENCODINGS[encoding](KV_HEADS[modelName]);
    const model = createModel(MODELS[modelName], { rng: rng.fork('model'), encoding: position }).eval() as CausalLM;
    const plain = logits(model);
    const own = new Set([...model.namedParameters()].map(([name]) => name));
    const handle = attach(model, ADAPTERS[adapter], { rng: rng.fork('adapter') });
    const start = logits(model);
    expect(distance(start, plain)).toBeLessThan(1e-3);

    // Backward: every adapter parameter gets a finite gradient, the base none; then a step, so that the adapter acts.
    const { loss, grads } = lossAndGrads(() => crossEntropy(model.apply(ids), ids), handle.parameters());
    expect([...grads.keys()].some((name) => own.has(name))).toBe(false);
    for (const [name, parameter] of handle.parameters()) {
      const largest = tidy(() => max(abs(grads.get(name) as Tensor)).dataSync()[0]);
      expect(Number.isFinite(largest)).toBe(true);
      parameter.assign(
        tidy(() => add(parameter.stored, rng.fork(name).normal(parameter.shape as [number], { std: 0.1 }))),
      );
    }
    const anyGradient = tidy(() => Math.max(...[...grads.values()].map((grad) => max(abs(grad)).dataSync()[0])));
    expect(anyGradient).toBeGreaterThan(1e-6);
    const adapted = logits(model);
    expect(distance(adapted, plain)).toBeGreaterThan(1e-2);

    // A probe sees the layer and does not change the model; a cache gives the same last token.
    // One that tokens pass through: 'all-linear' takes in those of an encoding that is a network as well.
    const { path } = handle.describe().find(({ path }) => !path.includes('.encoding.')) as { path: string };
    let seen: Tensor | undefined;
    const hook = model.getSubmodule(path).registerForwardHook((output: Tensor) => {
      seen = keep(clone(output));
    });
    const probed = logits(model);
    hook.remove();
    expect(seen?.shape.slice(0, 2)).toEqual([2, SEQ]);
    expect(distance(probed, adapted)).toBe(0);
    const last = decoded(model);
    const lastOfAll = tidy(() => slice(adapted, [0, SEQ - 1, 0], [-1, 1, -1]));
    if (!BY_LENGTH.includes(encoding)) expect(distance(last, lastOfAll)).toBeLessThan(2e-3);

    // Merge, unmerge, save and load give equal outputs.
    handle.merge({ safe: true });
    const merged = logits(model);
    expect(distance(merged, adapted)).toBeLessThan(2e-3);
    handle.unmerge();
    const dir = join(folder, `${modelName}-${encoding}-${adapter}`);
    await handle.save(dir);
    handle.unload();
    const unloaded = logits(model);
    expect(distance(unloaded, plain)).toBeLessThan(2e-3);
    const again = await loadAdapter(model, dir);
    const loaded = logits(model);
    expect(distance(loaded, adapted)).toBeLessThan(2e-3);
    again.unload();

    for (const tensor of [plain, start, adapted, probed, last, lastOfAll, merged, unloaded, loaded, loss])
      tensor.dispose();
    seen?.dispose();
    disposeMap(grads);
    model.dispose();
    (position as { dispose?: () => void } | undefined)?.dispose?.();
    expect(memory().numTensors).toBe(before);
  });

  it.each(Object.keys(MODELS))(
    '%s keeps its logits through a merge, a save and a load of the whole model',
    async (name) => {
      const model = createModel(MODELS[name], { rng: rng.fork('model') }).eval() as CausalLM;
      const handle = attach(model, lora({ r: 2, targetModules: 'all-linear', initLoraWeights: false }), { rng });
      const adapted = logits(model);
      handle.mergeAndUnload();
      await saveModel(model, join(folder, name));
      const again = await loadModel(join(folder, name));
      const loaded = logits(again);
      expect(distance(loaded, adapted)).toBeLessThan(2e-3);
      for (const tensor of [adapted, loaded]) tensor.dispose();
      model.dispose();
      again.dispose();
    },
  );
});
