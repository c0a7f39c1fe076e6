import {
  add,
  checkNumber,
  div,
  expm1,
  type GradientTransformation,
  mul,
  neg,
  type Scalar,
  scalar,
  sqrt,
  square,
  type Tensor,
  type TensorMap,
  tidy,
} from '@ashlar/tensor';
import { at, zerosLikeMap } from './tensor-maps.ts';

export interface ScaleByAdamOptions {
  /** Decay of the first moment, in `[0, 1)`. Default 0.9. */
  b1?: number;
  /** Decay of the second moment, in `[0, 1)`. Default 0.999. */
  b2?: number;
  /** Added to the root of the second moment. Default 1e-8. */
  eps?: number;
}

export type ScaleByAdamState = {
  /** Updates so far. */
  readonly count: Scalar;
  /** First moments. */
  readonly mu: TensorMap;
  /** Second moments. */
  readonly nu: TensorMap;
};

/**
 * Adam's direction: with `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2` and `t` updates so far,
 * `m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)`. It points up the gradient: end the chain with a negative scale.
 *
 * Source: Kingma & Ba 2014, arXiv:1412.6980, algorithm 1 (and the order of operations at the end of its section 2).
 * @throws ConfigError for an option out of range.
 */
export function scaleByAdam(options: ScaleByAdamOptions = {}): GradientTransformation<ScaleByAdamState> {
  const { b1 = 0.9, b2 = 0.999, eps = 1e-8 } = options;
  checkNumber('b1', b1, { min: 0, below: 1 });
  checkNumber('b2', b2, { min: 0, below: 1 });
  checkNumber('eps', eps, { min: 0 });
  return {
    init: (parameters) => ({ count: scalar(0), mu: zerosLikeMap(parameters), nu: zerosLikeMap(parameters) }),
    update(gradients, state) {
      const count = add(state.count, 1) as Scalar;
      // m/c1 / (sqrt(v/c2) + eps) = (sqrt(c2)/c1) m / (sqrt(v) + eps sqrt(c2)): two scalars, one large operation less.
      const rootC2 = sqrt(biasCorrection(b2, count));
      const rate = div(rootC2, biasCorrection(b1, count));
      const epsHat = mul(rootC2, eps);
      const [updates, mu, nu] = [new Map<string, Tensor>(), new Map<string, Tensor>(), new Map<string, Tensor>()];
      // A parameter at a time, so that what it leaves behind serves the next.
      for (const [name, g] of gradients) {
        const { m, v, update } = tidy(() => {
          const m = add(mul(at(state.mu, name), b1), mul(g, 1 - b1));
          const v = add(mul(at(state.nu, name), b2), mul(square(g), 1 - b2));
          return { m, v, update: mul(div(m, add(sqrt(v), epsHat)), rate) };
        });
        mu.set(name, m);
        nu.set(name, v);
        updates.set(name, update);
      }
      return { updates, state: { count, mu, nu } };
    },
  };
}

/** `1 - decay^count`, where subtracting from 1 in float32 would lose the small ones: `-expm1(count log(decay))`. */
function biasCorrection(decay: number, count: Scalar): Tensor {
  return neg(expm1(mul(count, Math.log(decay))));
}
