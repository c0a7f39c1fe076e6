import { add, checkNumber, type GradientTransformation, mul, type TensorMap } from '@ashlar/tensor';
import { at, mapTensors, zerosLikeMap } from './tensor-maps.ts';

export type TraceState = {
  readonly trace: TensorMap;
};

/**
 * Momentum as PyTorch's SGD has it: `b = momentum * b + g` (from `b = 0`), giving `b`, or with `nesterov`
 * `g + momentum * b`.
 *
 * Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
 * @throws ConfigError unless `0 <= momentum < 1`.
 */
export function trace(momentum: number, options: { nesterov?: boolean } = {}): GradientTransformation<TraceState> {
  checkNumber('momentum', momentum, { min: 0, below: 1 });
  const { nesterov = false } = options;
  return {
    init: (parameters) => ({ trace: zerosLikeMap(parameters) }),
    update(gradients, state) {
      const next = mapTensors(gradients, (g, name) => add(mul(at(state.trace, name), momentum), g));
      const updates = nesterov ? mapTensors(gradients, (g, name) => add(g, mul(at(next, name), momentum))) : next;
      return { updates, state: { trace: next } };
    },
  };
}
