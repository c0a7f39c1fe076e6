import type { Rng } from '@ashlar/tensor';
import { ConfigError, checkInteger } from '@ashlar/tensor';

/**
 * The 100 symbols of the copying tasks, in the order of the sorting tasks. The published list goes on with word pieces of
 * T5 after the first 79; here Greek letters take their place.
 */
export const SYMBOLS: readonly string[] = [
  ...'0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!$%&()*+,-./:;<=>αβγδεζηθικλμνξοπρστυφ',
];

/** The first `count` symbols. @throws ConfigError unless `count` is 1 .. `most`. */
export function symbolSet(count: number, most: number = SYMBOLS.length): readonly string[] {
  checkInteger('lengthTask', 'symbols', count);
  if (count > most) throw new ConfigError(`lengthTask: symbols is ${count}; there are ${most}`);
  return SYMBOLS.slice(0, count);
}

/** `length` of the first `count` symbols, with repetition. */
export function drawSymbols(length: number, count: number, rng: Rng): string[] {
  const symbols = symbolSet(count);
  return Array.from({ length }, () => symbols[rng.integer(0, count)]);
}
