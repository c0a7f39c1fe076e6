import { expect, it } from 'vitest';
import { checkInteger, checkIntegers, checkOptions, checkRng } from './check-options.ts';
import { ConfigError } from './errors.ts';
import { Rng } from './rng.ts';

it('returns what is right', () => {
  const [options, rng] = [{ size: 2 }, new Rng(0)];
  expect(checkOptions('Layer', options)).toBe(options);
  expect(checkRng('Layer', rng)).toBe(rng);
  expect(checkInteger('Layer', 'size', 8, 1, 8)).toBe(8);
  expect(checkIntegers('Layer', 'sizes', [0, 2], { min: 0, length: 2 })).toEqual([0, 2]);
  expect(checkIntegers('Layer', 'sizes', [])).toEqual([]);
});

it.each<[() => unknown, string]>([
  [() => checkOptions('Layer', undefined as never), 'Layer: the options are undefined; they must be an object.'],
  [() => checkRng('Layer', 5 as never), 'Layer: rng is 5; it must be an Rng, as new Rng(0) is.'],
  [() => checkRng('Layer', undefined as never), 'Layer: rng is undefined; it must be an Rng, as new Rng(0) is.'],
  [() => checkInteger('Layer', 'size', 9, 1, 8), 'Layer: size is 9; it must be a whole number >= 1 and <= 8.'],
  [() => checkIntegers('Layer', 'sizes', 'ab'), 'Layer: sizes is "ab"; it must be a list of whole numbers.'],
  [
    () => checkIntegers('Layer', 'sizes', [1], { length: 2 }),
    'Layer: sizes is [1]; it must be a list of 2 whole numbers.',
  ],
  [() => checkIntegers('Layer', 'sizes', [1, 0]), 'Layer: sizes[1] is 0; it must be a whole number >= 1.'],
])('names what is not: case %#', (check, message) => {
  expect(check).toThrow(ConfigError);
  expect(check).toThrow(message);
});
