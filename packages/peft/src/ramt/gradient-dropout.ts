import {
  abs,
  add,
  cast,
  disposeMap,
  div,
  greater,
  lossAndGrads,
  mul,
  type Parameter,
  type Rng,
  type Scalar,
  sign,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { refuse } from '../check-options.ts';

/**
 * The probability that an entry of the task's gradient is kept: `P = (1 + sign(a) (a + b) / (|a| + |b| + 1e-8)) / 2`, 1 where
 * the knowledge gradient `b` has the same sign, `|a| / (|a| + |b|)` where it has the other. The caller disposes of it.
 */
export function keepProbability(task: Tensor, knowledge: Tensor): Tensor {
  return tidy(() => {
    const agreement = mul(sign(task), add(task, knowledge));
    return mul(add(div(agreement, add(add(abs(task), abs(knowledge)), 1e-8)), 1), 0.5);
  });
}

/**
 * Gradient dropout: `((1 - lambda) + lambda 1[P > U]) a` for the task's gradient `a`. The knowledge gradient only decides what
 * is dropped. The caller disposes of it.
 * @param uniform `U`, of the same shape, from [0, 1), fresh at every step.
 * @throws ConfigError unless `lambda` is in [0, 1].
 */
export function gradientDropout(task: Tensor, knowledge: Tensor, uniform: Tensor, lambda = 1): Tensor {
  checkLambda(lambda);
  return tidy(() => {
    const kept = cast(greater(keepProbability(task, knowledge), uniform), 'float32');
    return mul(add(mul(kept, lambda), 1 - lambda), task);
  });
}

function checkLambda(lambda: number): void {
  if (!(lambda >= 0 && lambda <= 1)) refuse('lambda', lambda, 'in [0, 1]');
}

export interface MaskGradientOptions {
  /** What would be forgotten, a scalar of the same batch, as `knowledgeLoss`. It is differentiated, never added. */
  knowledge: () => Tensor;
  /** Share of a dropped entry that is taken away, in [0, 1]. Default 1; 0 is the plain gradient. */
  lambda?: number;
  /** Source of `U`. */
  rng: Rng;
}

/**
 * Loss and gradients of `loss` as `lossAndGrads` gives them, thinned out by gradient dropout: for `train({ gradients })`.
 * Twice the time of a step.
 * @throws ConfigError unless `lambda` is in [0, 1].
 */
export function maskGradients(
  loss: () => Tensor,
  parameters: ReadonlyMap<string, Parameter>,
  { knowledge, lambda = 1, rng }: MaskGradientOptions,
): { loss: Scalar; grads: Map<string, Tensor> } {
  checkLambda(lambda);
  const task = lossAndGrads(loss, parameters);
  let kept: ReturnType<typeof lossAndGrads>;
  try {
    kept = lossAndGrads(knowledge, parameters);
  } catch (error) {
    task.loss.dispose();
    disposeMap(task.grads);
    throw error;
  }
  const dropped = [...task.grads].map(([name, gradient]): [string, Tensor] => [
    name,
    tidy(() => gradientDropout(gradient, kept.grads.get(name) as Tensor, rng.uniform(gradient.shape), lambda)),
  ]);
  kept.loss.dispose();
  disposeMap(kept.grads);
  disposeMap(task.grads);
  return { loss: task.loss, grads: new Map(dropped) };
}
