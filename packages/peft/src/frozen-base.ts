import type { AnyModule, Parameter } from '@ashlar/tensor';

/** Models with adapters: the handles on them, and what trained before the first. */
const frozen = new WeakMap<AnyModule, { handles: Set<object>; trained: Map<Parameter, boolean> }>();

/**
 * Freezes the model for the adapters of `handle`, which must not have added parameters yet. Where adapters of another
 * handle have frozen it already, theirs go on training.
 */
export function freezeBase(model: AnyModule, handle: object): void {
  const base = frozen.get(model);
  if (base !== undefined) {
    base.handles.add(handle);
    return;
  }
  frozen.set(model, {
    handles: new Set([handle]),
    trained: new Map(model.parameters().map((parameter) => [parameter, parameter.requiresGrad])),
  });
  model.freeze();
}

/** Lets train what trained before `freezeBase`, once the last handle is gone. */
export function thawBase(model: AnyModule, handle: object): void {
  const base = frozen.get(model);
  if (!base?.handles.delete(handle) || base.handles.size > 0) return;
  for (const [parameter, trained] of base.trained) parameter.requiresGrad = trained;
  frozen.delete(model);
}
