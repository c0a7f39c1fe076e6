import type { GradientTransformation } from '@ashlar/tensor';
import { checkNumber } from '@ashlar/tensor';
import { addDecayedWeights, type ParameterPredicate } from './add-decayed-weights.ts';
import { type ChainState, chain } from './chain.ts';
import { scaleByLearningRate } from './scale.ts';
import { type ScaleByAdamOptions, scaleByAdam } from './scale-by-adam.ts';
import type { Schedule } from './schedules.ts';
import { trace } from './trace.ts';

export interface SgdOptions {
  learningRate: number | Schedule;
  /** Default 0. */
  momentum?: number;
  /** Default false. */
  nesterov?: boolean;
  /** L2 penalty, added to the gradient. Default 0. */
  weightDecay?: number;
  /** The parameters that decay. Default all. */
  mask?: ParameterPredicate;
}

/** Stochastic gradient descent with the numbers of PyTorch's `SGD` (dampening 0). */
export function sgd(options: SgdOptions): GradientTransformation<ChainState> {
  const { learningRate, momentum = 0, nesterov = false, weightDecay = 0, mask } = options;
  if (nesterov) checkNumber('momentum (with nesterov)', momentum, { above: 0, below: 1 });
  return chain(
    addDecayedWeights(weightDecay, { mask }),
    ...(momentum === 0 ? [] : [trace(momentum, { nesterov })]),
    scaleByLearningRate(learningRate),
  );
}

export interface AdamOptions extends ScaleByAdamOptions {
  learningRate: number | Schedule;
  /** Default 0 for `adam`, 0.01 for `adamw`. */
  weightDecay?: number;
  /** The parameters that decay. Default all. */
  mask?: ParameterPredicate;
}

/**
 * Adam with the numbers of PyTorch's `Adam`: `weightDecay` is an L2 penalty, added to the gradient.
 *
 * Source: Kingma & Ba 2014, arXiv:1412.6980.
 */
export function adam({
  learningRate,
  weightDecay = 0,
  mask,
  ...rest
}: AdamOptions): GradientTransformation<ChainState> {
  return chain(addDecayedWeights(weightDecay, { mask }), scaleByAdam(rest), scaleByLearningRate(learningRate));
}

/**
 * AdamW with the numbers of PyTorch's `AdamW`: `p -= learningRate * (adam(g) + weightDecay * p)`.
 *
 * Source: Loshchilov & Hutter 2017, arXiv:1711.05101.
 */
export function adamw({
  learningRate,
  weightDecay = 0.01,
  mask,
  ...rest
}: AdamOptions): GradientTransformation<ChainState> {
  return chain(scaleByAdam(rest), addDecayedWeights(weightDecay, { mask }), scaleByLearningRate(learningRate));
}
