import {
  add,
  ConfigError,
  cast,
  checkNumber,
  clipByValue,
  cos,
  div,
  gather,
  less,
  minimum,
  mul,
  reshape,
  type Scalar,
  scalar,
  sub,
  tensor1d,
  tidy,
  where,
} from '@ashlar/tensor';

/**
 * A number that changes from step to step: from the updates so far (a float32 scalar, 0 at the first update) to the
 * value. Built from tensor operations alone, so that a training step can be traced once. Runs inside a `tidy`.
 */
export type Schedule = (count: Scalar) => Scalar;

/** The value of `schedule` at `step`, as a number for logs and plots. */
export function scheduleValue(schedule: Schedule, step: number): number {
  return tidy(() => schedule(scalar(step)).dataSync()[0]);
}

/** Always `value`. */
export function constant(value: number): Schedule {
  checkNumber('value', value);
  return () => scalar(value);
}

export interface RampOptions {
  /** Value at count 0. */
  init: number;
  /** Value at count `steps` and after. */
  end: number;
  /** Updates from `init` to `end`. */
  steps: number;
}

/** `init + (end - init) * min(count / steps, 1)`. */
export function linear({ init, end, steps }: RampOptions): Schedule {
  checkRamp({ init, end, steps });
  return (count) => add(init, mul(end - init, fraction(count, steps)));
}

/**
 * `end + (init - end) * (1 + cos(pi * min(count / steps, 1))) / 2`.
 *
 * Source: Loshchilov & Hutter 2016, arXiv:1608.03983, without restarts.
 */
export function cosine({ init, end = 0, steps }: Omit<RampOptions, 'end'> & { end?: number }): Schedule {
  checkRamp({ init, end, steps });
  return (count) => add(end, mul((init - end) / 2, add(1, cos(mul(fraction(count, steps), Math.PI)))));
}

export interface WarmupOptions {
  /** Value at the end of the warm-up. */
  peak: number;
  /** Updates from `init` to `peak`, linearly. */
  warmupSteps: number;
  /** Updates from the start to `end`, the warm-up included. */
  totalSteps: number;
  /** Value at count 0. Default 0. */
  init?: number;
  /** Value at `totalSteps` and after. Default 0. */
  end?: number;
}

/** Linear from `init` to `peak` over `warmupSteps`, then `cosine` to `end` at `totalSteps`. */
export function warmupCosine(options: WarmupOptions): Schedule {
  return warmup(options, cosine);
}

/** Linear from `init` to `peak` over `warmupSteps`, then `linear` to `end` at `totalSteps`. */
export function warmupLinear(options: WarmupOptions): Schedule {
  return warmup(options, linear);
}

function warmup(options: WarmupOptions, decay: (ramp: RampOptions) => Schedule): Schedule {
  const { peak, warmupSteps, totalSteps, init = 0, end = 0 } = options;
  checkNumber('warmupSteps', warmupSteps, { min: 0, integer: true });
  checkNumber('totalSteps', totalSteps, { above: warmupSteps, integer: true });
  checkNumber('peak', peak);
  const falling = decay({ init: peak, end, steps: totalSteps - warmupSteps });
  if (warmupSteps === 0) return falling;
  return join([linear({ init, end: peak, steps: warmupSteps }), falling], [warmupSteps]);
}

/** `values[i]` from count `boundaries[i - 1]` on: one more value than boundaries. */
export function piecewise(values: readonly number[], boundaries: readonly number[]): Schedule {
  return join(values.map(constant), boundaries);
}

/**
 * `schedules[i]` from count `boundaries[i - 1]` on, each counting from its own start.
 * @throws ConfigError unless `boundaries` rise and there is one more schedule than boundaries.
 */
export function join(schedules: readonly Schedule[], boundaries: readonly number[]): Schedule {
  if (schedules.length !== boundaries.length + 1) {
    throw new ConfigError(
      `boundaries has ${boundaries.length} entries for ${schedules.length} pieces; it must have one fewer than pieces.`,
    );
  }
  boundaries.forEach((boundary, i) => {
    checkNumber(`boundaries[${i}]`, boundary, { above: i === 0 ? 0 : boundaries[i - 1], integer: true });
  });
  return (count) =>
    boundaries.reduce<Scalar>(
      (value, boundary, i) => where(less(count, boundary), value, schedules[i + 1](sub(count, boundary))),
      schedules[0](count),
    );
}

/**
 * Any JavaScript function of the step, tabulated for the steps `0 … steps - 1`; later steps have the last value.
 * @throws ConfigError if `f` gives something not finite.
 */
export function tabulated(f: (step: number) => number, steps: number): Schedule {
  checkNumber('steps', steps, { min: 1, integer: true });
  const table = Float32Array.from({ length: steps }, (_, step) => {
    const value = f(step);
    checkNumber(`f(${step})`, value);
    return value;
  });
  return (count) => {
    const index = cast(clipByValue(count, 0, steps - 1), 'int32');
    return reshape(gather(tensor1d(table), reshape(index, [1])), []) as Scalar;
  };
}

/** `min(count / steps, 1)`. */
function fraction(count: Scalar, steps: number): Scalar {
  return minimum(div(count, steps), 1);
}

function checkRamp({ init, end, steps }: RampOptions): void {
  checkNumber('init', init);
  checkNumber('end', end);
  checkNumber('steps', steps, { min: 1, integer: true });
}
