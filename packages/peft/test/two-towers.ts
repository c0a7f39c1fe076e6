// Contrastive image and text towers on 8x8 digits, the base of several claims.
import { Linear } from '@ashlar/nn';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  argMax,
  cast,
  crossEntropy,
  disposeMap,
  equal,
  type GradientTransformation,
  jit,
  l2Normalize,
  lossAndGrads,
  Module,
  matMul,
  mean,
  moduleState,
  mul,
  type Parameter,
  type Rng,
  relu,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { type DigitPicture, loadDigits } from '../../../tooling/claims/src/digits.ts';

const SCALE = 20;

/** The segments that a seven-segment display lights for each digit: the text of a class, made of parts that classes share. */
const SEGMENTS = [
  '1111110',
  '0110000',
  '1101101',
  '1111001',
  '0110011',
  '1011011',
  '1011111',
  '1110000',
  '1111111',
  '1111011',
];

class Tower extends Module {
  readonly layers: Linear[];

  constructor(sizes: readonly number[], rng: Rng) {
    super();
    this.layers = sizes.slice(1).map((size, i) => new Linear(sizes[i], size, { rng: rng.fork(i) }));
  }

  forward(x: Tensor): Tensor {
    const last = this.layers.length - 1;
    return this.layers.reduce((h, layer, i) => (i < last ? relu(layer.apply(h)) : layer.apply(h)), x);
  }
}

/** Logits of pictures over the given classes: cosines of an image and a text tower. */
export class TwoTowers extends Module<[Tensor, Tensor]> {
  readonly image: Tower;
  readonly text: Tower;

  constructor(rng: Rng) {
    super();
    this.image = new Tower([64, 96, 96, 32], rng.fork('image'));
    this.text = new Tower([7, 64, 64, 32], rng.fork('text'));
  }

  forward(pictures: Tensor, texts: Tensor): Tensor {
    const [images, classes] = [this.image.apply(pictures), this.text.apply(texts)];
    return mul(matMul(l2Normalize(images), l2Normalize(classes), false, true), SCALE);
  }
}

export interface Example {
  picture: DigitPicture;
  label: number;
}

export const texts = (classes: readonly number[]): Tensor => tensor2d(classes.map((c) => [...SEGMENTS[c]].map(Number)));
export const picturesOf = (examples: readonly Example[]): Tensor =>
  tensor2d(examples.map(({ picture }) => Array.from(picture)));
export const labelsOf = (examples: readonly Example[], classes: readonly number[]): Tensor =>
  tensor1d(
    examples.map(({ label }) => classes.indexOf(label)),
    'int32',
  );

/** One pixel to the right, rolled up or down by at most one, darker, noisy. */
export function shifted({ picture, label }: Example, rng: Rng): Example {
  const roll = rng.integer(-1, 2);
  const noise = rng.normalArray(64);
  const moved = picture.map((_, i) => {
    const [row, column] = [(Math.floor(i / 8) - roll + 8) % 8, (i % 8) - 1];
    return 0.8 * (column < 0 ? 0 : picture[row * 8 + column]) + 0.15 * noise[i];
  });
  return { picture: moved, label };
}

/** In percent, of the pictures of `classes`. */
export function accuracy(model: TwoTowers, examples: readonly Example[], classes: readonly number[]): number {
  const own = examples.filter(({ label }) => classes.includes(label));
  return tidy(() => {
    const predicted = argMax(model.apply(picturesOf(own), texts(classes)), -1);
    return 100 * mean(cast(equal(predicted, labelsOf(own, classes)), 'float32')).dataSync()[0];
  });
}

export interface Fit {
  steps: number;
  batch: number;
  learningRate: number;
}

/** A batch as a gradient function sees it. */
export interface Batch {
  /** `[batch, classes]`, computed anew. */
  logits(): Tensor;
  /** Cross-entropy, computed anew. */
  loss(): Tensor;
}

/** Trains what trains on random batches of `examples` over `classes`, by `optimizer` (default AdamW). */
export function fit(
  model: TwoTowers,
  examples: readonly Example[],
  classes: readonly number[],
  { steps, batch, learningRate }: Fit,
  rng: Rng,
  gradients: (batch: Batch, parameters: ReadonlyMap<string, Parameter>) => { grads: Map<string, Tensor> } = (
    { loss },
    parameters,
  ) => lossAndGrads(loss, parameters),
  transformation: (options: { learningRate: number }) => GradientTransformation = adamw,
): void {
  const optimizer = new Optimizer(model.trainableParameters(), transformation({ learningRate }));
  const names = texts(classes);
  const step = jit(
    (pictures: Tensor, labels: Tensor) => {
      const logits = (): Tensor => model.apply(pictures, names);
      const { grads } = gradients({ logits, loss: () => crossEntropy(logits(), labels) }, optimizer.parameters);
      optimizer.step(grads);
      disposeMap(grads);
    },
    { state: [moduleState(model), optimizer] },
  );
  for (let i = 0; i < steps; i++) {
    const chosen = Array.from(rng.choice(examples.length, batch), (at) => examples[at]);
    tidy(() => step(picturesOf(chosen), labelsOf(chosen, classes)));
  }
  step.dispose();
  names.dispose();
  optimizer.dispose();
}

const PRETRAINING = { steps: 400, batch: 64, learningRate: 2e-3 };
const TRAIN = 1000;
const ALL = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/** Two towers that know the digits, trained on 1,000 of them; the others are `test`. */
export function pretrained(rng: Rng): { model: TwoTowers; train: Example[]; test: Example[] } {
  const digits = loadDigits();
  const order = rng.fork('split').permutation(digits.labels.length);
  const examples = Array.from(order, (i): Example => ({ picture: digits.pictures[i], label: digits.labels[i] }));
  const [train, test] = [examples.slice(0, TRAIN), examples.slice(TRAIN)];
  const model = new TwoTowers(rng.fork('model'));
  fit(model, train, ALL, PRETRAINING, rng.fork('pretraining'));
  return { model, train, test };
}
