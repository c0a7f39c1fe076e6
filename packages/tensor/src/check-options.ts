import { ConfigError } from './errors.ts';
import { quote } from './quote.ts';

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

/** `value`. @throws ConfigError naming the option of `owner` unless it is a whole number of at least `min`, default 1. */
export function checkInteger(owner: string, option: string, value: unknown, min = 1): number {
  checkNumber(`${owner}: ${option}`, value, { integer: true, min });
  return value as number;
}

/** @throws ConfigError naming the option of `owner` unless it is one of `allowed`. */
export function checkChoice<T>(owner: string, option: string, value: T, allowed: readonly T[]): void {
  if (!allowed.includes(value)) {
    throw new ConfigError(`${owner}: ${option} is ${quote(value)}; it may be ${allowed.map(quote).join(', ')}.`);
  }
}
