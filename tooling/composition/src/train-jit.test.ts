import '@ashlar/backend-ort';
import { Dropout, Linear, Sequential } from '@ashlar/nn';
import { adamw } from '@ashlar/optim';
import { abs, log, memory, NumericsError, neg, Rng, setBackend, type Tensor, tanh } from '@ashlar/tensor';
import { crossEntropyObjective, type TrainEvent, type TrainOptions, train } from '@ashlar/train';
import { beforeAll, describe, expect, it } from 'vitest';

beforeAll(() => setBackend('ort'));

type Batch = { x: Tensor; labels: Tensor };

function options(sizeOf: (index: number) => number = () => 8): TrainOptions<Batch> {
  const rng = new Rng('train');
  const model = new Sequential([
    new Linear(4, 16, { rng: rng.fork('a') }),
    new Dropout(0.1, rng.fork('dropout')),
    new Linear(16, 3, { rng: rng.fork('b') }),
  ]);
  return {
    model,
    forward: ({ x, labels }) => ({ logits: model.apply(tanh(x)) as Tensor, labels }),
    objective: crossEntropyObjective(),
    batches: (i) => ({
      x: rng.fork(`x${i}`).normal([sizeOf(i), 4]),
      labels: rng.fork(`y${i}`).integers([sizeOf(i)], 0, 3),
    }),
    optimizer: adamw({ learningRate: 0.02 }),
    steps: 12,
  };
}

async function run(given: TrainOptions<Batch>): Promise<{ losses: number[]; norms: number[]; warnings: string[] }> {
  const own = given.model.parameters().filter(({ materialized }) => materialized).length;
  const before = memory().numTensors - own;
  const events: TrainEvent[] = [];
  for await (const event of train(given)) events.push(event);
  given.model.dispose();
  expect(memory().numTensors, 'tensors left').toBe(before);
  const steps = events.filter((event) => event.type === 'step');
  return {
    losses: steps.map(({ loss }) => loss),
    norms: steps.map(({ gradNorm }) => gradNorm),
    warnings: events.flatMap((event) => (event.type === 'warning' ? [event.message] : [])),
  };
}

/** Whether two runs agree to 1e-5, relative. */
function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  for (const [i, value] of actual.entries()) {
    expect(Math.abs(value - expected[i]), `step ${i + 1}`).toBeLessThan(1e-5 * expected[i]);
  }
}

describe('train({ jit })', () => {
  it('is the default and equals training without', async () => {
    const eager = await run({ ...options(), jit: false });
    let calls = 0;
    const jitted = options();
    const { forward } = jitted;
    const result = await run({
      ...jitted,
      forward: (batch) => {
        calls++;
        return forward(batch);
      },
    });
    expect(calls).toBe(1);
    expect(result.warnings).toEqual([]);
    expectClose(result.losses, eager.losses);
    expectClose(result.norms, eager.norms);
  });

  it('accumulates micro-batches', async () => {
    const eager = await run({ ...options(), accumulationSteps: 3, jit: false });
    expectClose((await run({ ...options(), accumulationSteps: 3, jit: true })).losses, eager.losses);
  });

  it('goes on without, once, where forward cannot be traced', async () => {
    const untraceable = (jit?: boolean): TrainOptions<Batch> => {
      const given = options();
      const { forward } = given;
      return {
        ...given,
        jit,
        forward(batch) {
          batch.x.dataSync();
          return forward(batch);
        },
      };
    };
    const eager = await run(untraceable(false));
    const { losses, warnings } = await run(untraceable());
    expect(losses).toEqual(eager.losses);
    expect(warnings).toEqual([expect.stringMatching(/goes on without jit, which is slower: .*reads the values of/)]);
    await expect(run(untraceable(true))).rejects.toThrow(/reads the values of/);
  });

  it('goes on without where every batch has another shape', async () => {
    const growing = (jit?: boolean): TrainOptions<Batch> => ({ ...options((i) => 2 + i), steps: 20, jit });
    const eager = await run(growing(false));
    const { losses, warnings } = await run(growing());
    expectClose(losses, eager.losses);
    expect(warnings).toEqual([expect.stringMatching(/more than 16 different shapes/)]);
  });

  it('passes on an error of forward as it is', async () => {
    const failing = {
      ...options(),
      forward: (): never => {
        throw new RangeError('mine');
      },
    };
    await expect(run(failing)).rejects.toThrow(new RangeError('mine'));
  });

  it('still finds a loss that is not finite, before it changes anything', async () => {
    const given = options();
    const start = given.model.parameters().map((parameter) => Array.from(parameter.stored.dataSync()));
    const { forward } = given;
    const infinite: TrainOptions<Batch> = {
      ...given,
      forward: ({ x, labels }) => forward({ x: log(neg(abs(x))), labels }),
    };
    await expect(async () => {
      for await (const _ of train(infinite));
    }).rejects.toThrow(NumericsError);
    expect(given.model.parameters().map((parameter) => Array.from(parameter.stored.dataSync()))).toEqual(start);
    given.model.dispose();
  });
});
