import { add, mul, stack, sub, type Tensor, tidy } from '@tensorflow/tfjs-core';
import { ConfigError } from './errors.ts';

/**
 * Solves `dy/dt = f(t, y)` from `y0` at `times[0]`, by Kutta's 3/8 rule of fourth order on the grid `times[0] + j stepSize`,
 * whose last point is moved to the last time; times within a step are interpolated linearly. Differentiable through the
 * steps. It is torchdiffeq's `odeint(method='rk4')`.
 * @param f keeps the shape of `y`.
 * @param times rising.
 * @returns `[times, …y0.shape]`.
 * @throws ConfigError for times that do not rise or a step that is not positive.
 */
export function odeSolve(
  f: (t: number, y: Tensor) => Tensor,
  y0: Tensor,
  times: readonly number[],
  options: { readonly stepSize: number },
): Tensor {
  const { stepSize } = options;
  if (!(stepSize > 0 && Number.isFinite(stepSize))) {
    throw new ConfigError(`odeSolve: stepSize is ${stepSize}; it must be a number above 0.`);
  }
  if (times.length === 0 || times.some((t, i) => !Number.isFinite(t) || (i > 0 && t <= times[i - 1]))) {
    throw new ConfigError(`odeSolve: times are [${times}]; they must be finite and rise.`);
  }
  const [first, last] = [times[0], times[times.length - 1]];
  const steps = Math.ceil(Math.fround(Math.fround(last - first) / Math.fround(stepSize)));
  // Rounded to float32 where the original rounds, and not added up.
  const grid = (j: number): number =>
    j === steps ? last : Math.fround(first + Math.fround(j * Math.fround(stepSize)));
  return tidy(() => {
    const found: Tensor[] = [y0];
    let y = y0;
    for (let j = 0; j < steps; j++) {
      const [from, to] = [grid(j), grid(j + 1)];
      const next = rungeKuttaStep(f, from, to - from, y);
      for (let time = times[found.length]; time <= to; time = times[found.length]) {
        found.push(time === to ? next : add(y, mul(sub(next, y), (time - from) / (to - from))));
      }
      y = next;
    }
    return stack(found);
  });
}

function rungeKuttaStep(f: (t: number, y: Tensor) => Tensor, t: number, h: number, y: Tensor): Tensor {
  const k1 = f(t, y);
  const k2 = f(t + h / 3, add(y, mul(k1, h / 3)));
  const k3 = f(t + (2 * h) / 3, add(y, mul(sub(k2, mul(k1, 1 / 3)), h)));
  const k4 = f(t + h, add(y, mul(add(sub(k1, k2), k3), h)));
  return add(y, mul(add(add(k1, mul(add(k2, k3), 3)), k4), h / 8));
}
