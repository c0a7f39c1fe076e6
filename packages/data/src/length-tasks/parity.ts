import { extractWord, type LengthTask } from './task.ts';

export interface Parity {
  /** 0 or 1 each. */
  readonly values: readonly number[];
}

const answer = ({ values }: Parity): string => (values.reduce((a, b) => a ^ b, 0) === 0 ? 'Yes' : 'No');

/** Whether the number of ones is even. */
export const parity: LengthTask<Parity> = {
  description: 'whether the number of ones is even, by bits',
  minLength: 1,
  draw: (length, rng) => ({ values: Array.from({ length }, () => rng.integer(0, 2)) }),
  prompt: ({ values }) => `Is the number of 1's even in the sequence [ ${values.join(', ')} ] ? `,
  target: (instance) => `The answer is ${answer(instance)}.`,
  answer,
  extract: extractWord,
  steps({ values }) {
    let odd = 0;
    return values.map((bit, i) => {
      const before = odd;
      odd ^= bit;
      return {
        input: `${bit}`,
        computation: `${bit} ** par = ${bit} ** ${before}`,
        output: `${odd}`,
        variables: `par: ${odd}`,
        remaining: `[ ${values.slice(i + 1).join(', ')} ]`,
      };
    });
  },
};
