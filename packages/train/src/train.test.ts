import '@tensorflow/tfjs-backend-cpu';
import { adamw, chain, clipByGlobalNorm, ParameterEma, scale, sgd, warmupCosine } from '@ashlar/optim';
import {
  add,
  ConfigError,
  disposeMap,
  memory,
  Parameter,
  type PositionEncoding,
  scalar,
  setBackend,
  sqrt,
  stateDict,
  type Tensor,
  tensor,
} from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import type { TrainEvent } from './index.ts';
import {
  accuracy,
  type Callback,
  crossEntropyObjective,
  encodingObjective,
  evaluate,
  sumObjectives,
  type TrainOptions,
  train,
} from './index.ts';
import { batchAt, Mlp, ShuffledBatches } from './mlp.testing.ts';

beforeAll(() => setBackend('cpu'));

type Batch = ReturnType<typeof batchAt>;
const objective = crossEntropyObjective();

function optionsFor(model: Mlp): TrainOptions<Batch> {
  return {
    model,
    forward: ({ x, labels }) => ({ logits: model.apply(x), labels }),
    objective,
    batches: (index) => batchAt(index),
    optimizer: adamw({ learningRate: 0.02 }),
    steps: 10,
  };
}

async function collect(options: TrainOptions<Batch>): Promise<TrainEvent[]> {
  const events: TrainEvent[] = [];
  for await (const event of train(options)) events.push(event);
  return events;
}

const of = <T extends TrainEvent['type']>(events: TrainEvent[], type: T): Extract<TrainEvent, { type: T }>[] =>
  events.filter((event): event is Extract<TrainEvent, { type: T }> => event.type === type);
const losses = (events: TrainEvent[]): number[] => of(events, 'step').map(({ loss }) => loss);

const heldOut = {
  *[Symbol.iterator](): Generator<Batch> {
    for (let i = 0; i < 4; i++) yield batchAt(10_000 + i, 16);
  },
};

describe('train', () => {
  it('streams plain events from start to end, and learns', async () => {
    const model = new Mlp();
    const learningRate = warmupCosine({ peak: 0.05, warmupSteps: 5, totalSteps: 60 });
    const events = await collect({
      ...optionsFor(model),
      optimizer: chain(clipByGlobalNorm(1), adamw({ learningRate })),
      steps: 60,
      evaluate: { batches: heldOut, everySteps: 20, atStart: true, metrics: { accuracy } },
    });
    expect(JSON.parse(JSON.stringify(events))).toEqual(events);
    expect(events[0]).toEqual({ type: 'start', step: 0, parameters: 131, trainable: 131, totalSteps: 60 });
    expect(events.slice(-2).map(({ type }) => type)).toEqual(['stopped', 'end']);
    expect(of(events, 'stopped')[0].reason).toBe('finished');
    const steps = of(events, 'step');
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
    expect(steps[1].learningRate).toBeCloseTo(0.01, 7);
    expect(steps[0].gradNorm).toBeGreaterThan(0);
    expect(steps[0].tokensPerSecond).toBeGreaterThan(0);
    const evaluations = of(events, 'evaluation');
    expect(evaluations.map(({ step }) => step)).toEqual([0, 20, 40, 60]);
    expect(evaluations[3].loss).toBeLessThan(0.6 * evaluations[0].loss);
    expect(evaluations[3].metrics.accuracy).toBeGreaterThan(0.75);
    expect(evaluations[3].perplexity).toBeCloseTo(Math.exp(evaluations[3].loss), 10);
    expect(of(events, 'end')[0].best).toBe(Math.min(...evaluations.map(({ loss }) => loss)));
    expect(of(events, 'end')[0].peakMemoryBytes).toBeGreaterThan(1e7);
    model.dispose();
  });

  it('gives the same losses for the same seed, and leaks nothing over 100 steps', async () => {
    const run = async (seed: number): Promise<number[]> => {
      const model = new Mlp({ seed });
      const before = memory().numTensors;
      stateDict(model);
      const made = memory().numTensors - before;
      const events = await collect({
        ...optionsFor(model),
        steps: 100,
        accumulationSteps: 2,
        evaluate: { batches: heldOut, everySteps: 25 },
      });
      expect(memory().numTensors - before).toBe(made);
      model.dispose();
      return losses(events);
    };
    const first = await run(1);
    expect(first).toHaveLength(100);
    expect(await run(1)).toEqual(first);
    expect(await run(2)).not.toEqual(first);
  });

  it('releases everything on break, and puts modes back', async () => {
    const model = new Mlp();
    model.fc1.eval();
    stateDict(model);
    const before = memory().numTensors;
    let closed = false;
    const batches = {
      *[Symbol.iterator](): Generator<Batch> {
        try {
          for (let i = 0; ; i++) yield batchAt(i);
        } finally {
          closed = true;
        }
      },
    };
    for await (const event of train({ ...optionsFor(model), batches, steps: 100 })) {
      if (event.type === 'step' && event.step === 3) break;
    }
    expect(closed).toBe(true);
    expect(memory().numTensors).toBe(before);
    expect([model.training, model.fc1.training, model.fc2.training]).toEqual([true, false, true]);
    model.dispose();
  });

  it('stops when its signal is aborted, also from a timer', async () => {
    const model = new Mlp();
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 100);
    const events = await collect({ ...optionsFor(model), steps: Infinity, signal: controller.signal });
    expect(of(events, 'stopped')[0].reason).toBe('cancelled');
    expect(of(events, 'start')[0].totalSteps).toBe(null);
    model.dispose();
  });

  it('stops early after `patience` evaluations without improvement', async () => {
    const model = new Mlp();
    const events = await collect({
      ...optionsFor(model),
      optimizer: sgd({ learningRate: 0 }),
      steps: 100,
      evaluate: { batches: heldOut, everySteps: 2 },
      earlyStopping: { patience: 3, minDelta: 1e-3 },
    });
    expect(of(events, 'evaluation').map(({ improved }) => improved)).toEqual([true, false, false, false]);
    expect(of(events, 'stopped')[0]).toEqual({ type: 'stopped', step: 8, reason: 'early-stopping' });
    model.dispose();
  });

  it('counts epochs, also when the last step has fewer batches', async () => {
    const model = new Mlp();
    const batches = new ShuffledBatches(5);
    const events = await collect({ ...optionsFor(model), batches, steps: undefined, epochs: 3, accumulationSteps: 2 });
    expect(of(events, 'start')[0].totalSteps).toBe(8);
    expect(of(events, 'step').map(({ epoch }) => epoch)).toEqual([0, 0, 1, 1, 1, 2, 2, 3]);
    model.dispose();
  });

  it('leaves the batches of an array to the caller', async () => {
    const model = new Mlp();
    const batches = [batchAt(0), batchAt(1)];
    await collect({ ...optionsFor(model), batches, epochs: 2, steps: undefined });
    for (const batch of batches) expect(batch.x.isDisposed).toBe(false);
    model.dispose();
  });

  it('never touches frozen parameters', async () => {
    const model = new Mlp();
    model.fc1.freeze();
    const before = Array.from(model.fc1.weight.stored.dataSync());
    const events = await collect(optionsFor(model));
    expect(of(events, 'start')[0].trainable).toBe(51);
    expect(Array.from(model.fc1.weight.stored.dataSync())).toEqual(before);
    model.dispose();
  });

  it('evaluates with the moving average and trains with the weights', async () => {
    const model = new Mlp({ p: 0 });
    const ema = new ParameterEma(model.trainableParameters(), { decay: 1 });
    const initial = await evaluate({ ...optionsFor(model), batches: heldOut });
    const options = { ...optionsFor(model), steps: 40, ema, evaluate: { batches: heldOut, everySteps: 40 } };
    const [evaluation] = of(await collect(options), 'evaluation');
    expect(evaluation.loss).toBe(initial.loss);
    expect(ema.swapped).toBe(false);
    const trained = await evaluate({ ...optionsFor(model), batches: heldOut });
    expect(trained.loss).toBeLessThan(initial.loss);
    ema.dispose();
    model.dispose();
  });

  it('gives callbacks every event before the consumer has it', async () => {
    const model = new Mlp();
    const seen: TrainEvent[] = [];
    const callback: Callback = {
      onEvent: async (event) => {
        await null;
        seen.push(event);
      },
    };
    for await (const event of train({ ...optionsFor(model), callbacks: [callback] })) {
      expect(seen.at(-1)).toBe(event);
    }
    expect(seen).toHaveLength(13);
    model.dispose();
  });

  it('takes a loss that the step computes itself', async () => {
    const model = new Mlp();
    const forward = ({ x, labels }: Batch): { loss: Tensor } => ({
      loss: objective.compute({ logits: model.apply(x), labels }),
    });
    const own = losses(await collect({ ...optionsFor(model), forward, objective: undefined }));
    const usual = losses(await collect(optionsFor(new Mlp())));
    expect(own).toEqual(usual);
  });

  it('refuses options that make no sense, at the call', () => {
    const model = new Mlp();
    const options = optionsFor(model);
    const refuses = (changes: Partial<TrainOptions<Batch>>, message: RegExp): void => {
      expect(() => train({ ...options, ...changes })).toThrow(ConfigError);
      expect(() => train({ ...options, ...changes })).toThrow(message);
    };
    refuses({ steps: 0 }, /steps is 0; it must be a whole number >= 1/);
    refuses({ steps: undefined }, /one of them must say when training ends/);
    refuses({ epochs: 2 }, /batches is a function, which has no epochs/);
    refuses({ accumulationSteps: 1.5 }, /accumulationSteps is 1.5/);
    refuses({ earlyStopping: { patience: 2 } }, /earlyStopping needs evaluations/);
    refuses({ resume: true }, /it needs checkpoint.folder/);
    refuses({ checkpoint: { folder: '' } }, /checkpoint.folder is ""/);
    model.freeze();
    refuses({}, /all of them are frozen/);
    model.dispose();
  });

  it('refuses batches that give nothing', async () => {
    const model = new Mlp();
    await expect(collect({ ...optionsFor(model), batches: [] })).rejects.toThrow(/batches is empty/);
    model.dispose();
  });
});

describe('encodingObjective', () => {
  it("adds an encoding's auxiliary loss to the task's, nothing where it has none", async () => {
    const lossWith = async (encoding: PositionEncoding): Promise<number> => {
      const added = sumObjectives([objective, encodingObjective(encoding)], [1, 0.5]);
      return losses(await collect({ ...optionsFor(new Mlp()), objective: added, steps: 1 }))[0];
    };
    const [plain] = losses(await collect({ ...optionsFor(new Mlp()), steps: 1 }));
    expect(await lossWith({})).toBeCloseTo(plain, 6);
    expect(await lossWith({ auxiliaryLoss: () => scalar(3) })).toBeCloseTo(plain + 1.5, 5);
  });
});

describe('accumulation', () => {
  it('gives the loss and the update of one big batch, whatever the shares of labels that count', async () => {
    const sizes = [
      { size: 4, ignored: 0 },
      { size: 6, ignored: 5 },
      { size: 3, ignored: 3 },
      { size: 7, ignored: 2 },
    ];
    const parts = sizes.map(({ size, ignored }, i) => batchAt(i, size, ignored));
    const whole = {
      x: tensor(
        parts.flatMap(({ x }) => Array.from(x.dataSync())),
        [20, 4],
      ),
      labels: tensor(
        parts.flatMap(({ labels }) => Array.from(labels.dataSync())),
        [20],
        'int32',
      ),
    };
    const step = async (batches: Batch[], accumulationSteps: number): Promise<{ loss: number; weights: number[] }> => {
      const model = new Mlp({ p: 0 });
      const optimizer = sgd({ learningRate: 1 });
      const events = await collect({ ...optionsFor(model), batches, optimizer, steps: 1, accumulationSteps });
      const weights = [...stateDict(model).values()].flatMap((t) => Array.from(t.dataSync()));
      model.dispose();
      return { loss: losses(events)[0], weights };
    };
    const big = await step([whole], 1);
    const small = await step(parts, 4);
    expect(Math.abs(small.loss - big.loss)).toBeLessThan(1e-6);
    const difference = Math.max(...big.weights.map((weight, i) => Math.abs(weight - small.weights[i])));
    expect(difference).toBeLessThan(5e-7);
    parts.forEach(({ x, labels }) => {
      disposeMap(
        new Map([
          ['x', x],
          ['labels', labels],
        ]),
      );
    });
  });

  it('says so when no label of a step counts', async () => {
    const model = new Mlp();
    const before = memory().numTensors;
    const batches = (): Batch => batchAt(0, 4, 4);
    await expect(collect({ ...optionsFor(model), batches })).rejects.toThrow(/No label of this step counts/);
    expect(memory().numTensors).toBeLessThanOrEqual(before + 4);
    model.dispose();
  });
});

describe('evaluate', () => {
  it('weights batches by their labels and leaves the mode alone', async () => {
    const model = new Mlp();
    const forward = optionsFor(model).forward;
    const batches = [batchAt(0, 8, 6), batchAt(1, 8), batchAt(2, 8, 8)];
    const before = memory().numTensors;
    const together = await evaluate({ model, forward, objective, batches, metrics: { accuracy } });
    expect(memory().numTensors).toBe(before + 4);
    expect(model.training).toBe(true);
    const [a, b] = await Promise.all(
      batches
        .slice(0, 2)
        .map((batch) => evaluate({ model, forward, objective, batches: [batch], metrics: { accuracy } })),
    );
    expect(together.weight).toBe(10);
    expect(together.loss).toBeCloseTo((2 * a.loss + 8 * b.loss) / 10, 6);
    expect(together.metrics.accuracy).toBeCloseTo((2 * a.metrics.accuracy + 8 * b.metrics.accuracy) / 10, 6);
    await expect(evaluate({ model, forward, objective, batches: batches.slice(2) })).rejects.toThrow(
      /no label that counts/,
    );
    model.dispose();
  });
});

describe('numbers that are not finite', () => {
  const failing = async (model: Mlp, changes: Partial<TrainOptions<Batch>>): Promise<string> => {
    stateDict(model);
    const before = memory().numTensors;
    const error = await collect({ ...optionsFor(model), ...changes }).catch((e: Error) => e);
    expect(memory().numTensors).toBe(before);
    model.dispose();
    if (!(error instanceof Error)) throw new Error('It did not fail.');
    expect(error.name).toBe('NumericsError');
    return error.message;
  };

  it('names a bad batch tensor and the step', async () => {
    const batches = (index: number): Batch => {
      const batch = batchAt(index);
      if (index !== 2) return batch;
      batch.x.dispose();
      return { ...batch, x: tensor(new Float32Array(32).fill(Number.NaN, 5, 7), [8, 4]) };
    };
    expect(await failing(new Mlp(), { batches })).toBe(
      "Step 3: the loss is NaN. The batch tensor 'x' [8,4] has 2 of 32 values that are not finite, the first (NaN) at flat index 5.",
    );
  });

  it('names a parameter that an update blew up', async () => {
    const message = await failing(new Mlp(), { optimizer: chain(scale(1e30), scale(1e30)) });
    expect(message).toMatch(/^Step 2: the loss is NaN\. The parameter 'fc[12]\.(weight|bias)'/);
  });

  it('names the first activation', async () => {
    const model = new Mlp({ p: 0 });
    model.fc1.weight.assign(tensor(new Float32Array(64).fill(3e38), [16, 4]));
    expect(await failing(model, {})).toMatch(/^Step 1: the loss is NaN\. The activation 'fc1' \[8,16\]/);
  });

  it('names a gradient', async () => {
    const model = new Mlp();
    const w = new Parameter(tensor([0]));
    Object.assign(model, { w });
    const forward = ({ x, labels }: Batch): Record<string, Tensor> => ({
      logits: add(model.apply(x), sqrt(w.value)),
      labels,
    });
    expect(await failing(model, { forward })).toMatch(
      /^Step 1: the norm of the gradients is Infinity\. The gradient 'w' \[1\]/,
    );
  });
});
