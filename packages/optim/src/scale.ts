import { add, checkNumber, type GradientTransformation, mul, neg, type Scalar, scalar } from '@ashlar/tensor';
import { stateless } from './chain.ts';
import { constant, type Schedule } from './schedules.ts';
import { mapTensors } from './tensor-maps.ts';

/** `factor * g`. */
export function scale(factor: number): GradientTransformation<Record<string, never>> {
  checkNumber('factor', factor);
  return stateless((gradients) => mapTensors(gradients, (g) => mul(g, factor)));
}

export type ScaleByScheduleState = {
  /** Updates so far. */
  readonly count: Scalar;
};

/** `schedule(count) * g`, with `count = 0` at the first update. */
export function scaleBySchedule(schedule: Schedule): GradientTransformation<ScaleByScheduleState> {
  return {
    init: () => ({ count: scalar(0) }),
    update(gradients, { count }) {
      const factor = schedule(count);
      return {
        updates: mapTensors(gradients, (g) => mul(g, factor)),
        state: { count: add(count, 1) as Scalar },
      };
    },
  };
}

export type ScaleByLearningRateState = {
  /** Updates so far. */
  readonly count: Scalar;
  /** The rate of the last update (of the first one, before it), for logs. */
  readonly learningRate: Scalar;
};

/**
 * `-learningRate(count) * g`: the last link of most chains. `count` is 0 at the first update.
 * @throws ConfigError if a number is negative.
 */
export function scaleByLearningRate(learningRate: number | Schedule): GradientTransformation<ScaleByLearningRateState> {
  if (typeof learningRate !== 'function') checkNumber('learningRate', learningRate, { min: 0 });
  const schedule = typeof learningRate === 'function' ? learningRate : constant(learningRate);
  return {
    init: () => ({ count: scalar(0), learningRate: schedule(scalar(0)) }),
    update(gradients, { count }) {
      const rate = schedule(count);
      const factor = neg(rate);
      return {
        updates: mapTensors(gradients, (g) => mul(g, factor)),
        state: { count: add(count, 1) as Scalar, learningRate: rate },
      };
    },
  };
}
