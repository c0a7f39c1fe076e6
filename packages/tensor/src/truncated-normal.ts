import { cosTurn, logUniform } from './portable-math.ts';

const SQRT_TWO_PI: number = Math.sqrt(2 * Math.PI);

/**
 * One draw of the standard normal distribution restricted to `[low, high]`, exact also far out in a tail, by rejection
 * from whichever proposal is accepted often: the normal itself, an exponential, or a uniform.
 * `next` gives uniform 32-bit words.
 *
 * Source: Robert, "Simulation of truncated normal variables" (Statistics and Computing, 1995; arXiv 0907.4010).
 */
export function truncatedStandardNormal(low: number, high: number, next: () => number): number {
  // The distance to the bound, about 1 / low, is then far below float64's resolution.
  if (low > 1e9) return low;
  if (high < 0) return -truncatedStandardNormal(-high, -low, next);
  if (low <= 0) return high - low > SQRT_TWO_PI ? fromNormal(low, high, next) : fromUniform(low, high, 0, next);
  const rate = (low + Math.sqrt(low * low + 4)) / 2;
  return (high - low) * rate > 1 ? fromExponential(low, high, rate, next) : fromUniform(low, high, low, next);
}

function fromNormal(low: number, high: number, next: () => number): number {
  for (;;) {
    const z = Math.sqrt(-2 * logUniform(next())) * cosTurn(next());
    if (z >= low && z <= high) return z;
  }
}

/** `mode` is the point of `[low, high]` where the density is largest. */
function fromUniform(low: number, high: number, mode: number, next: () => number): number {
  for (;;) {
    const z = low + (high - low) * ((next() + 0.5) / 0x100000000);
    if (logUniform(next()) <= ((mode - z) * (mode + z)) / 2) return z;
  }
}

function fromExponential(low: number, high: number, rate: number, next: () => number): number {
  for (;;) {
    const z = low - logUniform(next()) / rate;
    if (z <= high && logUniform(next()) <= (-(z - rate) * (z - rate)) / 2) return z;
  }
}
