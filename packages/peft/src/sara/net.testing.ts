import { Conv2d, Embedding, Linear } from '@ashlar/nn';
import { add, Module, Rng, reshape, stateDict, type Tensor, tanh, tensor, tidy } from '@ashlar/tensor';
import type { SaraModel } from './sara.ts';

/** One layer of every kind. */
export class Net extends Module {
  embed: Embedding;
  q_proj: Linear;
  conv: Conv2d;
  lm_head: Linear;

  constructor(rng = new Rng(7)) {
    super();
    this.embed = new Embedding(11, 8, { rng: rng.fork('embed') });
    this.q_proj = new Linear(8, 6, { rng: rng.fork('q') });
    this.conv = new Conv2d(1, 4, 3, { padding: 1, rng: rng.fork('conv') });
    this.lm_head = new Linear(72, 5, { rng: rng.fork('head') });
  }

  forward(ids: Tensor): Tensor {
    const hidden = tanh(this.q_proj.apply(this.embed.apply(ids)));
    const [batch, seq, dim] = hidden.shape;
    return this.lm_head.apply(reshape(this.conv.apply(reshape(hidden, [batch, 1, seq, dim])), [batch, 72]));
  }
}

/** Outputs of a net on the same few ids. */
export function outputs(net: Net): number[] {
  return tidy(() => numbers(net.apply(tensor([1, 4, 4, 10, 0, 3], [2, 3], 'int32'))));
}

export const numbers = (value: Tensor): number[] => Array.from(value.dataSync());

/** The stored weights by name, as bits. */
export const bits = (model: Module): Map<string, number[]> =>
  new Map(
    [...stateDict(model)].map(([name, value]) => [name, Array.from(new Uint32Array(value.dataSync().slice().buffer))]),
  );

/** Moves what trains, so that the adapter does something. */
export function disturb(handle: SaraModel): void {
  const rng = new Rng(1);
  for (const [name, parameter] of handle.parameters()) {
    parameter.assign(tidy(() => add(parameter.stored, rng.fork(name).normal(parameter.shape, { std: 0.6 }))));
  }
}
