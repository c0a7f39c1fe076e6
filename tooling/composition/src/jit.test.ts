import '@ashlar/backend-ort';
import { Conv2d, Dropout, LayerNorm, Linear, Sequential, TransformerBlock } from '@ashlar/nn';
import { adamw, chain, clipByGlobalNorm, Optimizer } from '@ashlar/optim';
import {
  type AnyModule,
  crossEntropy,
  disposeMap,
  jit,
  lossAndGrads,
  Module,
  mean,
  memory,
  moduleState,
  Rng,
  relu,
  reshape,
  type Scalar,
  setBackend,
  type Tensor,
} from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { batchOf, llama } from '../browser/llama.ts';

const STEPS = 20;

beforeAll(() => setBackend('ort'));

/** What trains: a model and its batches, the same for the same seed. */
interface Task {
  model: AnyModule;
  batch(index: number): { x: Tensor; y: Tensor };
}

class Relu extends Module {
  override forward(x: Tensor): Tensor {
    return relu(x);
  }
}

function mlp(): Task {
  const rng = new Rng('mlp');
  const model = new Sequential([
    new Linear(8, 32, { rng: rng.fork('a') }),
    new Relu(),
    new Dropout(0.2, rng.fork('dropout')),
    new Linear(32, 5, { rng: rng.fork('b') }),
  ]);
  return {
    model,
    batch: (i) => ({
      x: rng.fork(`x${i}`).normal([16, 8]),
      y: rng.fork(`y${i}`).integers([16], 0, 5),
    }),
  };
}

/** A small vision transformer: patches by a convolution, two blocks, the mean of the patches. */
class Vit extends Module {
  readonly patches: Conv2d;
  readonly blocks: TransformerBlock[];
  readonly norm: LayerNorm;
  readonly head: Linear;

  constructor(rng: Rng) {
    super();
    this.patches = new Conv2d(3, 16, 4, { stride: 4, rng: rng.fork('patches') });
    this.blocks = [0, 1].map((i) => new TransformerBlock(16, { heads: 2, dropout: 0.1, rng: rng.fork(`block${i}`) }));
    this.norm = new LayerNorm(16);
    this.head = new Linear(16, 4, { rng: rng.fork('head') });
  }

  override forward(images: Tensor): Tensor {
    let x = reshape(this.patches.apply(images), [images.shape[0], 9, 16]);
    for (const block of this.blocks) x = block.apply(x);
    return this.head.apply(mean(this.norm.apply(x), 1));
  }
}

function vit(): Task {
  const rng = new Rng('vit');
  return {
    model: new Vit(rng.fork('model')),
    batch: (i) => ({
      x: rng.fork(`x${i}`).normal([4, 3, 12, 12]),
      y: rng.fork(`y${i}`).integers([4], 0, 4),
    }),
  };
}

function llamaWithLora(): Task {
  return {
    model: llama('LoRA', { dropout: 0.1 }),
    batch: (i) => {
      const { x, labels } = batchOf(i);
      return { x, y: labels };
    },
  };
}

/** Trains for `steps`; the losses, and how often the step was traced. */
function train({ model, batch }: Task, steps: number, useJit: boolean): { losses: number[]; traces: number } {
  const optimizer = new Optimizer(
    model.trainableParameters(),
    chain(clipByGlobalNorm(1), adamw({ learningRate: 1e-2, weightDecay: 0.01 })),
  );
  const eager = (x: Tensor, y: Tensor): Scalar => {
    const { loss, grads } = lossAndGrads(() => crossEntropy(model.apply(x), y), optimizer.parameters);
    optimizer.step(grads);
    disposeMap(grads);
    return loss;
  };
  const jitted = jit(eager, { state: [moduleState(model), optimizer] });
  const step = useJit ? jitted : eager;
  const losses: number[] = [];
  let numTensors = 0;
  for (let i = 0; i < steps; i++) {
    const { x, y } = batch(i);
    const loss = step(x, y);
    losses.push(loss.dataSync()[0]);
    for (const tensor of [x, y, loss]) tensor.dispose();
    if (i === 0) numTensors = memory().numTensors;
  }
  expect(memory().numTensors, 'tensors after the first step and after the last').toBe(numTensors);
  jitted.dispose();
  optimizer.dispose();
  return { losses, traces: jitted.traces };
}

describe('training under jit', () => {
  it.each([
    ['an MLP with dropout', mlp],
    ['a ViT with dropout', vit],
    ['a Llama with LoRA and dropout', llamaWithLora],
  ])('of %s equals training without', (_, make) => {
    const before = memory().numTensors;
    const run = (useJit: boolean) => {
      const task = make();
      const result = train(task, STEPS, useJit);
      task.model.dispose();
      expect(memory().numTensors).toBe(before);
      return result;
    };
    const eager = run(false);
    const jitted = run(true);
    expect(jitted.traces).toBe(1);
    for (const [i, loss] of jitted.losses.entries()) {
      expect(Math.abs(loss - eager.losses[i]), `loss of step ${i + 1}`).toBeLessThan(1e-5 * eager.losses[i]);
    }
    expect(new Set(eager.losses).size).toBe(STEPS);
  });
});

describe('what a traced function depends on', () => {
  it('modes, switched adapters and hooks have graphs of their own', () => {
    const { model, batch } = llamaWithLora();
    const { x, y } = batch(0);
    y.dispose();
    const forward = jit((ids: Tensor) => model.apply(ids) as Tensor, { state: [moduleState(model)] });
    const agree = (traces: number): number => {
      const a = model.apply(x) as Tensor;
      const b = forward(x);
      const [expected, actual] = [a.dataSync(), b.dataSync()];
      a.dispose();
      b.dispose();
      for (const [i, value] of actual.entries()) expect(Math.abs(value - expected[i])).toBeLessThan(1e-5);
      expect(forward.traces).toBe(traces);
      return expected[0];
    };
    model.eval();
    const first = agree(1);
    const hook = model.registerForwardHook((logits) => reshape(logits as Tensor, [16, 40]));
    agree(2);
    hook.remove();
    expect(agree(2)).toBe(first);
    forward.dispose();
    x.dispose();
    model.dispose();
  });
});
