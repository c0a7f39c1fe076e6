import { Module, type Tensor } from '@ashlar/tensor';

/** Modules one after the other; their names are `0`, `1` … as in PyTorch. */
export class Sequential extends Module {
  [index: number]: Module;

  constructor(modules: readonly Module[]) {
    super();
    Object.assign(this, modules);
  }

  override forward(x: Tensor): Tensor {
    let y = x;
    for (const [, module] of this.namedChildren()) y = (module as Module).apply(y);
    return y;
  }
}
