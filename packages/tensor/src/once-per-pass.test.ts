import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  add,
  disposeMap,
  lossAndGrads,
  Module,
  memory,
  mul,
  noGrad,
  oncePerPass,
  Parameter,
  setBackend,
  square,
  sum,
  type Tensor,
  tensor1d,
  tidy,
} from './index.ts';
import { expectNoLeak } from './testing/index.ts';

beforeAll(() => setBackend('cpu'));

/** Squares of its weights, times what it is given. */
class Squares extends Module<[Tensor]> {
  readonly weight = new Parameter({ shape: [2], init: () => tensor1d([2, 3]) });
  made = 0;

  forward(x: Tensor): Tensor {
    return oncePerPass(this, [x], () => {
      this.made++;
      return tidy(() => mul(square(this.weight.value), x));
    });
  }
}

describe('oncePerPass', () => {
  const x = (): Tensor => tensor1d([10, 100]);
  /** Gradients of the weights for what `f` makes of the module and an input, and how often that was computed. */
  function measure(f: (module: Squares, x: Tensor) => Tensor): { made: number; grad: number[] } {
    const module = new Squares();
    const input = x();
    const { stored } = module.weight;
    const before = memory().numTensors;
    const { loss, grads } = lossAndGrads(() => sum(f(module, input)), module.trainableParameters());
    expect([memory().numTensors, stored.isDisposed]).toEqual([before + 2, false]);
    const grad = Array.from(grads.get('weight')?.dataSync() ?? []);
    loss.dispose();
    disposeMap(grads);
    module.dispose();
    input.dispose();
    return { made: module.made, grad };
  }

  it('computes once for a module and its inputs, and gradients add up', () => {
    const thrice = (module: Squares, x: Tensor): Tensor => add(module.apply(x), mul(2, module.apply(x)));
    expect(measure(thrice)).toEqual({ made: 1, grad: [120, 1800] });
    expect(measure((module, x) => add(module.apply(x), module.apply(mul(x, 1))))).toEqual({
      made: 2,
      grad: [80, 1200],
    });
  });

  it('computes every time outside of a pass', () => {
    const module = new Squares();
    const input = x();
    expectNoLeak(() => module.apply(input));
    const made = module.made;
    tidy(() => [module.apply(input), module.apply(input)]);
    expect(module.made).toBe(made + 2);
    module.dispose();
    input.dispose();
  });

  it('computes anew what the parameters, the mode or hooks change', () => {
    const replaced = measure((module, x) => {
      const first = module.apply(x);
      const handle = module.registerForwardHook((out) => mul(out, 3));
      const second = module.apply(x);
      handle.remove();
      module.eval();
      return add(add(first, second), module.apply(x));
    });
    expect(replaced).toEqual({ made: 3, grad: [200, 3000] });
  });

  it('keeps apart what gradients flow through and what they do not', () => {
    const constant = measure((module, x) =>
      add(
        noGrad(() => module.apply(x)),
        module.apply(x),
      ),
    );
    expect(constant).toEqual({ made: 2, grad: [40, 600] });
  });

  it('is right in gradients of gradients', () => {
    // The loss is the sum of the gradient of sum(w^2 x) and of the same itself: 2 w x + w^2 x.
    const nested = measure((module, x) => {
      const { loss, grads } = lossAndGrads(() => sum(module.apply(x)), module.trainableParameters());
      return add(add(sum(grads.get('weight') as Tensor), loss), mul(0, sum(module.apply(x))));
    });
    expect(nested.grad).toEqual([20 + 40, 200 + 600]);
  });

  it('forgets where the loss fails', () => {
    const module = new Squares();
    const input = x();
    const failing = (): Tensor => {
      module.apply(input);
      throw new Error('mine');
    };
    tidy(() => {
      expect(() => lossAndGrads(failing, module.trainableParameters())).toThrow('mine');
      module.apply(input);
    });
    expect(module.made).toBe(2);
    module.dispose();
    input.dispose();
  });
});
