import {
  add,
  checkNumber,
  div,
  equal,
  type GradientState,
  type GradientTransformation,
  type Scalar,
  scalar,
  type TensorMap,
  where,
  zerosLike,
} from '@ashlar/tensor';
import { zipState } from './state.ts';
import { at, mapTensors, zerosLikeMap } from './tensor-maps.ts';

export type AccumulateState<State extends GradientState = GradientState> = {
  /** Gradients summed since the last real update. */
  readonly count: Scalar;
  readonly sum: TensorMap;
  readonly inner: State;
};

/**
 * Gives `transformation` the mean of every `everySteps` gradients and updates by zero in between (optax's `MultiSteps`).
 * The choice is made by tensors, not by branches, so that a step can be traced; it therefore computes `transformation`
 * at every step; a training loop that averages micro-batches itself, as `@ashlar/train` does, is cheaper.
 * @throws ConfigError unless `everySteps` is a whole number >= 1.
 */
export function accumulate<State extends GradientState>(
  transformation: GradientTransformation<State>,
  everySteps: number,
): GradientTransformation<AccumulateState<State>> {
  checkNumber('everySteps', everySteps, { min: 1, integer: true });
  return {
    init: (parameters) => ({
      count: scalar(0),
      sum: zerosLikeMap(parameters),
      inner: transformation.init(parameters),
    }),
    update(gradients, state, parameters) {
      const count = add(state.count, 1) as Scalar;
      const complete = equal(count, everySteps);
      const sum = mapTensors(gradients, (g, name) => add(at(state.sum, name), g));
      const mean = mapTensors(sum, (total) => div(total, everySteps));
      const { updates, state: inner } = transformation.update(mean, state.inner, parameters);
      return {
        updates: mapTensors(updates, (update) => where(complete, update, zerosLike(update))),
        state: {
          count: where(complete, zerosLike(count), count),
          sum: mapTensors(sum, (total) => where(complete, zerosLike(total), total)),
          inner: zipState(inner, state.inner, (next, old) => where(complete, next, old)),
        },
      };
    },
  };
}
