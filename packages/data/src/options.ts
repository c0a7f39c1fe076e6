import { ConfigError, quote } from '@ashlar/tensor';

/** `value`, where it is a whole number of at least `min`. */
export function checkWhole(value: unknown, where: string, option: string, min = 1): number {
  if (Number.isSafeInteger(value) && (value as number) >= min) return value as number;
  throw new ConfigError(`${where}: ${option} is ${quote(value)}; it may be a whole number >= ${min}`);
}
