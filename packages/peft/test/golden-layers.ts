import { Linear } from '@ashlar/nn';
import { type AnyModule, Module, type Parameter, Rng, svd, type Tensor, type Tensor2D } from '@ashlar/tensor';

export class Holder extends Module {
  layer: AnyModule;
  constructor(layer: AnyModule) {
    super();
    this.layer = layer;
  }
  forward(x: Tensor): Tensor {
    return this.layer.apply(x);
  }
}

/** Layers at given paths, as a model would hold them. */
export class Tree extends Module {
  put(path: string, layer: AnyModule): void {
    const words = path.split('.');
    const last = words.pop() as string;
    let node = this as unknown as Record<string, unknown>;
    for (const word of words) {
      node[word] ??= {};
      node = node[word] as Record<string, unknown>;
    }
    node[last] = layer;
  }

  forward(): Tensor {
    throw new Error('Only its layers run.');
  }
}

export const rng = new Rng(0);

export function linear({ weight, bias }: { weight: Tensor; bias?: Tensor }): Linear {
  const layer = new Linear(weight.shape[1] as number, weight.shape[0], { bias: bias !== undefined, rng });
  return withWeights(layer, weight, bias);
}

export function withWeights<T extends { weight: Parameter; bias?: Parameter }>(
  layer: T,
  weight: Tensor,
  bias?: Tensor,
): T {
  layer.weight.assign(weight.clone());
  if (bias !== undefined) layer.bias?.assign(bias.clone());
  return layer;
}

export function singularValues(weight: Tensor): Tensor {
  const { u, s, vt } = svd(weight as Tensor2D);
  u.dispose();
  vt.dispose();
  return s;
}
