import '@ashlar/backend-ort';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SeqPe } from '@ashlar/encodings';
import { type CausalLM, createModel, loadModel, saveModel } from '@ashlar/models';
import { KeyValueCache, normal_ } from '@ashlar/nn';
import { adamw, chain, clipByGlobalNorm, masked } from '@ashlar/optim';
import { abs, max, Rng, setBackend, slice, sub, type Tensor, tidy } from '@ashlar/tensor';
import { crossEntropyObjective, encodingObjective, sumObjectives, train } from '@ashlar/train';
import { afterAll, beforeAll, expect, it } from 'vitest';

const GPT2 = {
  model_type: 'gpt2',
  vocab_size: 11,
  n_embd: 16,
  n_head: 2,
  n_layer: 2,
  n_positions: 8,
  attn_pdrop: 0,
  resid_pdrop: 0,
  embd_pdrop: 0,
};
const LLAMA = {
  model_type: 'llama',
  vocab_size: 11,
  hidden_size: 32,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};

const distance = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);
const ids = (seed: number, length = 8): Tensor => new Rng(seed).integers([2, length], 0, 11);

let folder: string;
beforeAll(async () => {
  await setBackend('ort');
  folder = await mkdtemp(join(tmpdir(), 'seqpe-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** The losses of a few steps with shifts, contrastive and transfer loss. */
async function losses(jit: boolean): Promise<number[]> {
  const encoding = new SeqPe({
    mode: 'attn_scalar',
    encoder: { dim: 16, heads: 2, dropout: 0 },
    maxPosition: 100,
    heads: 2,
    headDim: 8,
    training: {
      window: 8,
      shiftRate: 0.5,
      contrastive: { pivots: 4, candidates: 6 },
      transfer: { windows: 2, positions: 4 },
    },
    init: normal_({ std: 0.3 }),
    rng: new Rng('seqpe'),
  });
  const model = createModel(GPT2, { rng: new Rng('model'), encoding });
  const values: number[] = [];
  const events = train({
    model,
    forward: ({ inputs }: { inputs: Tensor }) => ({ logits: model.apply(inputs) as Tensor, labels: inputs }),
    objective: sumObjectives([crossEntropyObjective(), encodingObjective(encoding)]),
    batches: (index) => {
      encoding.sample();
      return { inputs: ids(index) };
    },
    optimizer: chain(
      masked(clipByGlobalNorm(5), (name) => name.includes('.encoding.encoder.')),
      adamw({ learningRate: 1e-3, weightDecay: 0 }),
    ),
    steps: 6,
    jit,
  });
  for await (const event of events) if (event.type === 'step') values.push(event.loss);
  model.dispose();
  return values;
}

it('trains as one graph as it does without, with new samples in every step', async () => {
  const eager = await losses(false);
  const jitted = await losses(true);
  expect(jitted).toHaveLength(6);
  for (const [i, value] of jitted.entries()) expect(Math.abs(value - eager[i])).toBeLessThan(1e-4 * eager[i]);
});

it.each(['attn_mul', 'attn_scalar', 'input_add'] as const)(
  '%s with grouped queries: decodes with a cache as in one pass, and saves and loads with the model',
  async (mode) => {
    const encoding = (seed: number): SeqPe =>
      new SeqPe({
        mode,
        encoder: { dim: 32, heads: 2 },
        maxPosition: 1000,
        ...(mode === 'input_add' ? {} : { heads: 4, kvHeads: 2, headDim: 8, layers: 2 }),
        init: normal_({ std: 0.3 }),
        rng: new Rng(seed),
      });
    const own = encoding(1);
    const model = createModel(LLAMA, { rng: new Rng(1), encoding: own }).eval() as CausalLM;
    const tokens = ids(0);
    const whole = model.apply(tokens);
    const cache = new KeyValueCache();
    for (let i = 0; i < 8; i++) {
      const step = model.apply(slice(tokens, [0, i], [-1, 1]), { cache });
      expect(distance(step, slice(whole, [0, i, 0], [-1, 1, -1]))).toBeLessThan(1e-4);
    }
    await saveModel(model, join(folder, mode));
    const again = await loadModel(join(folder, mode), { encoding: encoding(2) });
    expect(distance(again.apply(tokens), whole)).toBeLessThan(1e-6);
  },
);
