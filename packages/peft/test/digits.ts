import { Linear } from '@ashlar/nn';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  argMax,
  cast,
  crossEntropy,
  disposeMap,
  equal,
  jit,
  lossAndGrads,
  Module,
  mean,
  moduleState,
  type Rng,
  relu,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { type DigitPicture, loadDigits } from '../../../tooling/claims/src/digits.ts';

/** 64-hidden-hidden-10 with ReLU. */
export class Mlp extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly head: Linear;

  constructor(hidden: number, rng: Rng) {
    super();
    this.fc1 = new Linear(64, hidden, { rng: rng.fork('fc1') });
    this.fc2 = new Linear(hidden, hidden, { rng: rng.fork('fc2') });
    this.head = new Linear(hidden, 10, { rng: rng.fork('head') });
  }

  forward(x: Tensor): Tensor {
    return this.head.apply(relu(this.fc2.apply(relu(this.fc1.apply(x)))));
  }
}

export interface Examples {
  pictures: readonly DigitPicture[];
  labels: readonly number[];
}

export const pick = ({ pictures, labels }: Examples, indices: ArrayLike<number>): Examples => ({
  pictures: Array.from(indices, (i) => pictures[i]),
  labels: Array.from(indices, (i) => labels[i]),
});

/** The digits in random order: `count` to train on, and the others. */
export function splitDigits(count: number, rng: Rng): { train: Examples; test: Examples } {
  const digits = loadDigits();
  const order = rng.permutation(digits.labels.length);
  return { train: pick(digits, order.slice(0, count)), test: pick(digits, order.slice(count)) };
}

const images = ({ pictures }: Examples): Tensor => tensor2d(pictures.map((picture) => Array.from(picture)));
const targets = ({ labels }: Examples): Tensor => tensor1d(labels.slice(), 'int32');

/** Trains what is trainable on random batches, by AdamW without decay unless it is asked for; gives the loss of each step. */
export function fit(
  model: Module,
  data: Examples,
  options: { steps: number; learningRate: number; batch?: number; weightDecay?: number; rng: Rng },
): number[] {
  const { steps, learningRate, batch: size = 64, weightDecay = 0, rng } = options;
  const parameters = model.trainableParameters();
  const optimizer = new Optimizer(parameters, adamw({ learningRate, weightDecay }));
  const step = jit(
    (x: Tensor, y: Tensor): Tensor => {
      const { loss, grads } = lossAndGrads(() => crossEntropy(model.apply(x), y), parameters);
      optimizer.step(grads);
      disposeMap(grads);
      return loss;
    },
    { state: [moduleState(model), optimizer] },
  );
  const losses = Array.from({ length: steps }, () => {
    const batch = pick(data, rng.choice(data.labels.length, size));
    const used = [images(batch), targets(batch)] as const;
    const loss = step(...used);
    const [value] = loss.dataSync();
    for (const tensor of [loss, ...used]) tensor.dispose();
    return value;
  });
  step.dispose();
  optimizer.dispose();
  return losses;
}

/** In percent. */
export function accuracy(model: Module, data: Examples): number {
  return tidy(() => {
    const predicted = argMax(model.apply(images(data)), -1);
    return 100 * mean(cast(equal(predicted, targets(data)), 'float32')).dataSync()[0];
  });
}

/** The model's output on `data`. The caller disposes of it. */
export const outputs = (model: Module, data: Examples): Tensor => tidy(() => model.apply(images(data)));
