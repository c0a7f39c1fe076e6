import type { AnyModule } from '@ashlar/tensor';

/** Remembers which modules are in training mode; the returned function puts them back. */
export function saveModes(model: AnyModule): () => void {
  const modes = Array.from(model.namedModules(), ([, module]) => ({ module, training: module.training }));
  return () => {
    for (const { module, training } of modes) module.training = training;
  };
}
