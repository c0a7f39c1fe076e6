import { ConfigError, quote } from '@ashlar/tensor';

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
