import type { GradientState, GradientTransformation, TensorMap } from '@ashlar/tensor';

/** The states of the links, under `'0'`, `'1'` … */
export type ChainState = { readonly [index: string]: GradientState };

/** Applies the links one after another: each takes the updates of the one before. */
export function chain(...links: GradientTransformation[]): GradientTransformation<ChainState> {
  return {
    init: (parameters) => Object.fromEntries(links.map((link, i) => [i, link.init(parameters)])),
    update(gradients, state, parameters) {
      let updates = gradients;
      const next: Record<string, GradientState> = {};
      for (const [i, link] of links.entries()) {
        const result = link.update(updates, state[i], parameters);
        updates = result.updates;
        next[i] = result.state;
      }
      return { updates, state: next };
    },
  };
}

/** A link that keeps no state. */
export function stateless(
  update: (gradients: TensorMap, parameters: TensorMap) => TensorMap,
): GradientTransformation<Record<string, never>> {
  return {
    init: () => ({}),
    update: (gradients, state, parameters) => ({ updates: update(gradients, parameters), state }),
  };
}

/** Passes gradients through. */
export function identity(): GradientTransformation<Record<string, never>> {
  return stateless((gradients) => gradients);
}
