import type { AnyModule } from '@ashlar/tensor';
import { ConfigError, Module, type Parameter, type Tensor } from '@ashlar/tensor';

/** A module that methods can wrap: one weight, one input, one output. */
export type AdaptableModule = Module<[Tensor], Tensor> & { weight: Parameter; bias?: Parameter };

/** A layer in the place of another, its `base_layer`, to which an adapter method adds. */
export abstract class AdapterLayer<Base extends AdaptableModule = AdaptableModule> extends Module<[Tensor], Tensor> {
  readonly base_layer: Base;

  constructor(base: Base) {
    super();
    this.base_layer = base;
    this.training = base.training;
  }
}

/** What a method that hooks a plain layer hangs on it as a child; such a layer takes no other adapter. */
export abstract class LayerGuest extends Module<[Tensor], Tensor> {}

/** The name under which a guest hangs on `layer`, if one does. */
export function guestOf(layer: AnyModule): string | undefined {
  return [...layer.namedChildren()].find(([, child]) => child instanceof LayerGuest)?.[0];
}

/** Every name of the parameters and persistent buffers of a model. */
function namesOf(model: AnyModule): Map<unknown, string[]> {
  const names = new Map<unknown, string[]>();
  for (const [name, slot] of model.namedState()) names.set(slot, [...(names.get(slot) ?? []), name]);
  return names;
}

/** @throws ConfigError if one of the weights, by path of its layer, is tied to another module: it would change too. */
export function refuseTied(model: AnyModule, weights: Iterable<readonly [path: string, weight: Parameter]>): void {
  const names = namesOf(model);
  for (const [path, weight] of weights) {
    const own = names.get(weight) ?? [];
    if (own.length > 1) {
      throw new ConfigError(
        `The weight of '${path}' is tied (${own.join(', ')}): merging would change them all. Give each its own first.`,
      );
    }
  }
}
