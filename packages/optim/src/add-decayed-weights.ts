import { add, checkNumber, type GradientTransformation, mul, type Tensor } from '@ashlar/tensor';
import { stateless } from './chain.ts';
import { at, mapTensors } from './tensor-maps.ts';

/** Chooses parameters by name and tensor, for example `(name, p) => p.rank > 1`. */
export type ParameterPredicate = (name: string, parameter: Tensor) => boolean;

/**
 * `g + weightDecay * p`: before Adam's scaling an L2 penalty, after it decoupled weight decay (AdamW).
 *
 * Source: Loshchilov & Hutter 2017, arXiv:1711.05101.
 * @param options.mask the parameters that decay (default all).
 * @throws ConfigError if `weightDecay` is negative.
 */
export function addDecayedWeights(
  weightDecay: number,
  options: { mask?: ParameterPredicate } = {},
): GradientTransformation<Record<string, never>> {
  checkNumber('weightDecay', weightDecay, { min: 0 });
  const { mask = () => true } = options;
  return stateless((gradients, parameters) => {
    if (weightDecay === 0) return gradients;
    return mapTensors(gradients, (g, name) => {
      const parameter = at(parameters, name);
      return mask(name, parameter) ? add(g, mul(parameter, weightDecay)) : g;
    });
  });
}
