import { Module, mul, type Rng, type Tensor } from '@ashlar/tensor';
import { activation } from './activation.ts';
import type { Initializer } from './init.ts';
import { Linear } from './linear.ts';

export interface SwiGLUOptions {
  /** Of the gate, by its name in `config.json`. Default `'silu'`, which makes it SwiGLU. */
  activation?: string;
  /** Default false. */
  bias?: boolean;
  rng: Rng;
  /** Of the weights. Default as `Linear`. */
  init?: Initializer;
  /** Of the biases. Default as `Linear`. */
  biasInit?: Initializer;
}

/**
 * Gated feed-forward layer under Llama's names, `down_proj(activation(gate_proj(x)) * up_proj(x))`: `[..., dim]` to the
 * same.
 *
 * Source: Shazeer, "GLU variants improve Transformer" (2020, arXiv 2002.05202).
 */
export class SwiGLU extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(dim: number, hidden: number, options: SwiGLUOptions) {
    super();
    const { bias = false, init, biasInit, rng } = options;
    const linear = (name: string, from: number, to: number): Linear =>
      new Linear(from, to, { bias, init, biasInit, rng: rng.fork(name) });
    this.gate_proj = linear('gate_proj', dim, hidden);
    this.up_proj = linear('up_proj', dim, hidden);
    this.down_proj = linear('down_proj', hidden, dim);
    this.#activation = activation(options.activation ?? 'silu');
  }

  override forward(x: Tensor): Tensor {
    return this.down_proj.apply(mul(this.#activation(this.gate_proj.apply(x)), this.up_proj.apply(x)));
  }
}
