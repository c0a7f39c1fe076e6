import { Module, mul, type Rng, silu, type Tensor } from '@ashlar/tensor';
import { activation } from './activation.ts';
import { Dropout } from './dropout.ts';
import { Linear } from './linear.ts';

/** `fc2(activation(fc1(x)))` with dropout on the hidden units. */
export class Mlp extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly dropout: Dropout;
  readonly #activation: (x: Tensor) => Tensor;

  /** @param options.activation default `'gelu'`. @param options.dropout default 0. */
  constructor(
    dim: number,
    hidden: number,
    options: { activation?: string; dropout?: number; bias?: boolean; rng: Rng },
  ) {
    super();
    const { bias = true, dropout = 0, rng } = options;
    this.#activation = activation(options.activation ?? 'gelu');
    this.fc1 = new Linear(dim, hidden, { bias, rng: rng.fork('fc1') });
    this.fc2 = new Linear(hidden, dim, { bias, rng: rng.fork('fc2') });
    this.dropout = new Dropout(dropout, rng.fork('dropout'));
  }

  override forward(x: Tensor): Tensor {
    return this.fc2.apply(this.dropout.apply(this.#activation(this.fc1.apply(x))));
  }
}

/** `down(silu(gate(x)) * up(x))`, without biases. Source: Shazeer 2020, arXiv 2002.05202. */
export class SwiGLU extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;

  constructor(dim: number, hidden: number, options: { rng: Rng }) {
    super();
    const linear = (inFeatures: number, outFeatures: number, name: string): Linear =>
      new Linear(inFeatures, outFeatures, { bias: false, rng: options.rng.fork(name) });
    this.gate_proj = linear(dim, hidden, 'gate_proj');
    this.up_proj = linear(dim, hidden, 'up_proj');
    this.down_proj = linear(hidden, dim, 'down_proj');
  }

  override forward(x: Tensor): Tensor {
    return this.down_proj.apply(mul(silu(this.gate_proj.apply(x)), this.up_proj.apply(x)));
  }
}
