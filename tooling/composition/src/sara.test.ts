import '@ashlar/backend-ort';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Linear, Sequential } from '@ashlar/nn';
import { adamw } from '@ashlar/optim';
import { attach, type SaraModel, sara } from '@ashlar/peft';
import { Rng, setBackend, type Tensor, tidy } from '@ashlar/tensor';
import { crossEntropyObjective, sumObjectives, type TrainOptions, train } from '@ashlar/train';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

let folder: string;
beforeAll(async () => {
  await setBackend('ort');
  folder = await mkdtemp(join(tmpdir(), 'sara-train-'));
});
afterAll(() => rm(folder, { recursive: true }));

type Batch = { x: Tensor; labels: Tensor };

/** A run with the low-rank term at every step and re-selection after the 5th. */
function setUp(): { handle: SaraModel; options: TrainOptions<Batch> } {
  const rng = new Rng('sara');
  const model = new Sequential([new Linear(6, 16, { rng: rng.fork('a') }), new Linear(16, 4, { rng: rng.fork('b') })]);
  const config = { fraction: 0.4, lambdaRank: 0.05, progressiveStep: 5, minMatrixSide: 0, minMaskEntries: 0 };
  const handle = attach(model, sara(config));
  const options: TrainOptions<Batch> = {
    model,
    forward: ({ x, labels }) => ({ logits: model.apply(x) as Tensor, labels }),
    objective: sumObjectives([crossEntropyObjective(), { compute: () => handle.rankTerm() }]),
    batches: (i) => ({ x: rng.fork(`x${i}`).normal([8, 6]), labels: rng.fork(`y${i}`).integers([8], 0, 4) }),
    optimizer: adamw({ learningRate: 0.02, weightDecay: 0.1 }),
    callbacks: [handle.callback(rng.fork('rank'))],
    steps: 10,
  };
  return { handle, options };
}

/** What has become of the values, and what the run said. */
async function run({ handle, options }: ReturnType<typeof setUp>): Promise<{ values: number[]; messages: string[] }> {
  const messages: string[] = [];
  for await (const event of train(options)) if (event.type === 'warning') messages.push(event.message);
  const values = [...handle.values.values()].flatMap((own) => tidy(() => Array.from(own.values().dataSync())));
  return { values, messages };
}

describe('SaRA in a training run', () => {
  it('is the same under jit, and in a run that is stopped after the progressive step and resumed', async () => {
    const eager = setUp();
    const plain = await run({ ...eager, options: { ...eager.options, jit: false } });
    const held = [...eager.handle.values.values()].flatMap(({ sara_held }) => Array.from(sara_held.stored.dataSync()));
    expect(held.some((value) => value !== 0)).toBe(true);
    for (const [i, value] of held.entries()) if (value !== 0) expect(plain.values[i]).toBe(value);

    const { values, messages } = await run(setUp());
    expect(messages).toEqual([]);
    for (const [i, value] of values.entries()) expect(value).toBeCloseTo(plain.values[i], 5);

    const checkpoint = { folder: join(folder, 'checkpoints') };
    const first = setUp();
    await run({ ...first, options: { ...first.options, checkpoint, steps: 7 } });
    const second = setUp();
    const resumed = await run({ ...second, options: { ...second.options, checkpoint, resume: true } });
    expect(resumed).toEqual({ values, messages: [] });
  });
});
