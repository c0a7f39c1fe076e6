import { extractNumber, type LengthTask, modulo, spell } from './task.ts';

const MODULUS = 10;

export interface ModularSum {
  readonly values: readonly number[];
}

const total = ({ values }: ModularSum): number =>
  modulo(
    values.reduce((sum, value) => sum + value, 0),
    MODULUS,
  );

/** Sum modulo 10 of numbers 1 .. 9. */
export const modularSum: LengthTask<ModularSum> = {
  description: 'sum modulo 10, by numbers',
  minLength: 1,
  draw: (length, rng) => ({ values: Array.from({ length }, () => rng.integer(1, 10)) }),
  prompt: ({ values }) => `Compute: ${values.join(' + ')} .`,
  target: (instance) => `The answer is ${spell(total(instance))} .`,
  answer: (instance) => String(total(instance)),
  extract: extractNumber,
  steps({ values }) {
    let sum = 0;
    return values.map((value, i) => {
      const before = sum;
      const output = spell(before + value);
      sum = modulo(before + value, MODULUS);
      return {
        input: spell(value),
        computation: `${spell(value)} + sum = ${spell(value)} + ${spell(before)} =`,
        output,
        variables: `sum: ${output} = ${sum}`,
        remaining: values
          .slice(i + 1)
          .map(spell)
          .join(' + '),
      };
    });
  },
};
