import { ConfigError } from './errors.ts';
import { quote } from './quote.ts';
import type { Rng } from './rng.ts';

/** What a number option may be; bounds are inclusive unless named otherwise. */
export interface NumberRange {
  min?: number;
  above?: number;
  max?: number;
  below?: number;
  integer?: boolean;
}

/** @throws ConfigError naming the option, its value and its range unless `value` is a finite number in `range`. */
export function checkNumber(option: string, value: unknown, range: NumberRange = {}): void {
  const { min = -Infinity, above = -Infinity, max = Infinity, below = Infinity, integer = false } = range;
  const fits =
    typeof value === 'number' &&
    Number.isFinite(value) &&
    value >= min &&
    value > above &&
    value <= max &&
    value < below &&
    (!integer || Number.isInteger(value));
  if (fits) return;
  const bounds = [
    range.min !== undefined && `>= ${min}`,
    range.above !== undefined && `> ${above}`,
    range.max !== undefined && `<= ${max}`,
    range.below !== undefined && `< ${below}`,
  ].filter((bound) => bound !== false);
  const kind = integer ? 'a whole number' : 'a finite number';
  throw new ConfigError(`${option} is ${quote(value)}; it must be ${[kind, bounds.join(' and ')].join(' ').trim()}.`);
}

/**
 * `value`. @throws ConfigError naming the option of `owner` unless it is a whole number of at least `min`, default 1, and at
 * most `max`, if given.
 */
export function checkInteger(owner: string, option: string, value: unknown, min = 1, max?: number): number {
  checkNumber(`${owner}: ${option}`, value, { integer: true, min, max });
  return value as number;
}

/**
 * `values`. @throws ConfigError naming the option of `owner` unless it is a list of whole numbers of at least `min`, default
 * 1, and of `length`, if given.
 */
export function checkIntegers(
  owner: string,
  option: string,
  values: unknown,
  { min, length }: { readonly min?: number; readonly length?: number } = {},
): readonly number[] {
  if (!Array.isArray(values) || values.length !== (length ?? values.length)) {
    const kind = length === undefined ? 'whole numbers' : `${length} whole numbers`;
    throw new ConfigError(`${owner}: ${option} is ${quote(values)}; it must be a list of ${kind}.`);
  }
  for (const [i, value] of values.entries()) checkInteger(owner, `${option}[${i}]`, value, min);
  return values;
}

/** `options`. @throws ConfigError naming `owner` unless they are an object: what is called without any has none. */
export function checkOptions<T extends object>(owner: string, options: T): T {
  if (typeof options === 'object' && options !== null) return options;
  throw new ConfigError(`${owner}: the options are ${quote(options)}; they must be an object.`);
}

/** `rng`. @throws ConfigError naming `owner` unless it is an `Rng`. */
export function checkRng(owner: string, rng: Rng): Rng {
  if (typeof rng?.fork === 'function') return rng;
  throw new ConfigError(`${owner}: rng is ${quote(rng)}; it must be an Rng, as new Rng(0) is.`);
}

/** @throws ConfigError naming the option of `owner` unless it is one of `allowed`. */
export function checkChoice<T>(owner: string, option: string, value: T, allowed: readonly T[]): void {
  if (!allowed.includes(value)) {
    throw new ConfigError(`${owner}: ${option} is ${quote(value)}; it may be ${allowed.map(quote).join(', ')}.`);
  }
}
