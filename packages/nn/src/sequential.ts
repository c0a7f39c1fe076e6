import { Module, type Tensor } from '@ashlar/tensor';

type Step = Module | ((x: Tensor) => Tensor);

/**
 * Modules and plain functions one after the other, each under its index: `new Sequential([linear, gelu, linear])` has
 * the parameters `0.weight`, `2.weight` …, as in PyTorch.
 */
export class Sequential extends Module {
  [index: number]: Step;
  readonly length: number;

  constructor(steps: readonly Step[]) {
    super();
    Object.assign(this, steps);
    this.length = steps.length;
  }

  override forward(x: Tensor): Tensor {
    let y = x;
    for (let i = 0; i < this.length; i++) {
      const step = this[i];
      y = step instanceof Module ? step.apply(y) : step(y);
    }
    return y;
  }
}
