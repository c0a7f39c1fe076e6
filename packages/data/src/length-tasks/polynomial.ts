import { extractNumber, type LengthTask, modulo, spell } from './task.ts';

const MODULUS = 10;

export interface Polynomial {
  readonly coeffs: readonly number[];
  /** One for each coefficient. */
  readonly degrees: readonly number[];
  readonly x: number;
}

const terms = ({ coeffs, degrees }: Polynomial): string[] =>
  coeffs.map((coeff, i) => `${spell(coeff)} * x ** ${spell(degrees[i])}`);

const value = ({ coeffs, degrees, x }: Polynomial): number =>
  modulo(
    coeffs.reduce((sum, coeff, i) => sum + coeff * x ** degrees[i], 0),
    MODULUS,
  );

/** Value modulo 10 of a polynomial with coefficients -3 .. 3 and degrees 0 .. 3 at -2 .. 2. */
export const polynomial: LengthTask<Polynomial> = {
  description: 'value of a polynomial modulo 10, by terms',
  minLength: 1,
  draw: (length, rng) => ({
    coeffs: Array.from({ length }, () => rng.integer(-3, 4)),
    degrees: Array.from({ length }, () => rng.integer(0, 4)),
    x: rng.integer(-2, 3),
  }),
  prompt: (instance) => `Evaluate at x = ${spell(instance.x)} in ${terms(instance).join(' + ')} ? `,
  target: (instance) => `The answer is ${spell(value(instance))}.`,
  answer: (instance) => String(value(instance)),
  extract: extractNumber,
  steps(instance) {
    const { coeffs, degrees, x } = instance;
    const written = terms(instance);
    let sum = 0;
    return coeffs.map((coeff, i) => {
      const before = sum;
      const power = x ** degrees[i];
      const output = spell(coeff * power);
      sum = modulo(before + coeff * power, MODULUS);
      return {
        input: written[i],
        computation: `${spell(coeff)} * ${spell(x)} ** ${spell(degrees[i])} = ${spell(coeff)} * ${spell(power)}`,
        output,
        variables: `sum: ${spell(before)} + ${output} = ${spell(sum)}`,
        remaining: written.slice(i + 1).join(' + '),
      };
    });
  },
};
