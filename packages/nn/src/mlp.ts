import { Module, type Rng, type Tensor } from '@ashlar/tensor';
import { activation } from './activation.ts';
import { Dropout } from './dropout.ts';
import type { Initializer } from './init.ts';
import { Linear } from './linear.ts';

export interface MlpOptions {
  /** By its name in `config.json`. Default `'gelu'`. */
  activation?: string;
  /** Of the hidden units. Default 0. */
  dropout?: number;
  /** Default true. */
  bias?: boolean;
  rng: Rng;
  /** Of the weights. Default as `Linear`. */
  init?: Initializer;
}

/** `fc2(activation(fc1(x)))` with dropout on the hidden units: `[..., dim]` to the same. */
export class Mlp extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly dropout: Dropout;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(dim: number, hidden: number, options: MlpOptions) {
    super();
    const { bias, dropout = 0, init, rng } = options;
    this.#activation = activation(options.activation ?? 'gelu');
    this.fc1 = new Linear(dim, hidden, { bias, init, rng: rng.fork('fc1') });
    this.fc2 = new Linear(hidden, dim, { bias, init, rng: rng.fork('fc2') });
    this.dropout = new Dropout(dropout, rng.fork('dropout'));
  }

  override forward(x: Tensor): Tensor {
    return this.fc2.apply(this.dropout.apply(this.#activation(this.fc1.apply(x))));
  }
}
