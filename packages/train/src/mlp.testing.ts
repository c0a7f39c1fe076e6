import {
  add,
  type LazyTensor,
  Module,
  matMul,
  mul,
  Parameter,
  Rng,
  relu,
  type Tensor,
  tensor,
  transpose,
} from '@ashlar/tensor';
import type { Batch } from './batches.ts';

class Dense extends Module {
  weight: Parameter;
  bias: Parameter;

  constructor(inputs: number, outputs: number, rng: Rng) {
    super();
    const normal = (shape: number[], std: number): LazyTensor => ({ shape, init: () => rng.normal(shape, { std }) });
    this.weight = new Parameter(normal([outputs, inputs], inputs ** -0.5));
    this.bias = new Parameter(normal([outputs], 0.1));
  }

  forward(x: Tensor): Tensor {
    return add(matMul(x, transpose(this.weight.value)), this.bias.value);
  }
}

/** A small classifier with dropout, whose generator is a property, as a layer's is. */
export class Mlp extends Module {
  fc1: Dense;
  fc2: Dense;
  rng: Rng;
  readonly p: number;

  constructor(options: { seed?: number; inputs?: number; hidden?: number; classes?: number; p?: number } = {}) {
    super();
    const { seed = 1, inputs = 4, hidden = 16, classes = 3, p = 0.2 } = options;
    const rng = new Rng(seed);
    this.fc1 = new Dense(inputs, hidden, rng.fork('fc1'));
    this.fc2 = new Dense(hidden, classes, rng.fork('fc2'));
    this.rng = rng.fork('dropout');
    this.p = p;
  }

  forward(x: Tensor): Tensor {
    const h = relu(this.fc1.apply(x));
    if (!this.training || this.p === 0) return this.fc2.apply(h);
    const kept = mul(this.rng.bernoulli(h.shape, 1 - this.p), 1 / (1 - this.p));
    return this.fc2.apply(mul(h, kept));
  }
}

/** Batch `index` of an endless classification task: the class is the largest of the first three inputs. */
export function batchAt(index: number, size = 8, ignored = 0): Batch {
  const values = new Rng('batches').fork(index).normalArray(size * 4);
  const labels = Int32Array.from({ length: size }, (_, i) => {
    const row = values.subarray(4 * i, 4 * i + 3);
    return i < ignored ? -100 : row.indexOf(Math.max(...row));
  });
  return { x: tensor(values, [size, 4]), labels: tensor(labels, [size], 'int32') };
}

/** Shuffled batches that know their position, as a data set's loader does. */
export class ShuffledBatches {
  readonly #count: number;
  #rng: Rng = new Rng('shuffle');
  #epochStart = this.#rng.state();
  #next = 0;

  constructor(count: number) {
    this.#count = count;
  }

  get length(): number {
    return this.#count;
  }

  *[Symbol.iterator](): Generator<Batch> {
    this.#rng = Rng.fromState(this.#epochStart);
    const order = this.#rng.permutation(this.#count);
    while (this.#next < this.#count) yield batchAt(order[this.#next++]);
    this.#epochStart = this.#rng.state();
    this.#next = 0;
  }

  state(): { key: number[]; counter: number; next: number } {
    const { key, counter } = this.#epochStart;
    return { key, counter, next: this.#next };
  }

  restore(state: unknown): void {
    const { key, counter, next } = state as { key: [number, number]; counter: number; next: number };
    this.#epochStart = { algorithm: 'philox4x32-10', key, counter };
    this.#next = next;
  }
}
