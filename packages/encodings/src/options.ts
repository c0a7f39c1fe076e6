import { ConfigError } from '@ashlar/tensor';

/** @throws ConfigError naming the option unless it is an integer of at least `min`. */
export function checkInteger(owner: string, option: string, value: number, min = 1): void {
  if (!Number.isInteger(value) || value < min) {
    throw new ConfigError(`${owner}: ${option} is ${value}; it must be an integer of at least ${min}.`);
  }
}

/** @throws ConfigError naming the option unless it is a finite number above `min`. */
export function checkAbove(owner: string, option: string, value: number, min: number): void {
  if (!(Number.isFinite(value) && value > min)) {
    throw new ConfigError(`${owner}: ${option} is ${value}; it must be a number above ${min}.`);
  }
}

/** @throws ConfigError naming the option unless it is a number from 0 to 1. */
export function checkShare(owner: string, option: string, value: number): void {
  if (!(value >= 0 && value <= 1)) {
    throw new ConfigError(`${owner}: ${option} is ${value}; it must be from 0 to 1.`);
  }
}

/** @throws ConfigError naming the option unless it is one of `allowed`. */
export function checkChoice<T>(owner: string, option: string, value: T, allowed: readonly T[]): void {
  if (!allowed.includes(value)) {
    const list = allowed.map((choice) => (typeof choice === 'string' ? `'${choice}'` : `${choice}`)).join(', ');
    throw new ConfigError(`${owner}: ${option} is '${value}'; it may be ${list}.`);
  }
}
