import { ConfigError, quote } from '@ashlar/tensor';

/** `value`, where it is a whole number of at least 1. */
export function checkPositive(value: unknown, where: string, option: string): number {
  if (Number.isSafeInteger(value) && (value as number) >= 1) return value as number;
  throw new ConfigError(`${where}: ${option} is ${quote(value)}; it may be a whole number >= 1`);
}
