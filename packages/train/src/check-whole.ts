import { ConfigError, quote } from '@ashlar/tensor';

/** @throws ConfigError unless `value` is a whole number >= `min`. */
export function checkWhole(option: string, value: unknown, min: number): void {
  if (Number.isSafeInteger(value) && (value as number) >= min) return;
  throw new ConfigError(`${option} is ${quote(value)}; it must be a whole number >= ${min}.`);
}
