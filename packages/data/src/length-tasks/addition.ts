import type { Rng } from '@ashlar/tensor';
import type { ScratchpadStep } from './scratchpad.ts';
import { extractNumber, type LengthTask, spell } from './task.ts';

export interface Addition {
  readonly a: bigint;
  readonly b: bigint;
}

/** A number of so many digits. */
function drawNumber(digits: number, rng: Rng): bigint {
  const first = rng.integer(digits === 1 ? 0 : 1, 10);
  return BigInt([first, ...Array.from({ length: digits - 1 }, () => rng.integer(0, 10))].join(''));
}

const digitsOf = (number: bigint, count: number): number[] => [...String(number).padStart(count, '0')].map(Number);

/** The number that digits stand for, spelled; nothing for none. */
const spellDigits = (digits: readonly number[]): string => (digits.length === 0 ? '' : spell(BigInt(digits.join(''))));

/** Sum of two numbers; the length is the digits of the longer one, all pairs of digit counts being equally likely. */
export const addition: LengthTask<Addition> = {
  description: 'sum of two numbers, by digits of the longer one',
  minLength: 1,
  draw(length, rng) {
    const pair = rng.integer(0, 2 * length - 1);
    const other = drawNumber(pair < length ? pair + 1 : pair - length + 1, rng);
    const longer = drawNumber(length, rng);
    return pair < length ? { a: longer, b: other } : { a: other, b: longer };
  },
  prompt: ({ a, b }) => `Compute ${spell(a)} + ${spell(b)} ? `,
  target: ({ a, b }) => `The answer is ${spell(a + b)}.`,
  answer: ({ a, b }) => String(a + b),
  extract: extractNumber,
  steps({ a, b }) {
    const count = Math.max(String(a).length, String(b).length);
    const [left, right] = [digitsOf(a, count), digitsOf(b, count)];
    const steps: ScratchpadStep[] = [];
    let carry = 0;
    const column = (x: number, y: number, rest: number): void => {
      const sum = x + y + carry;
      const next = Math.floor(sum / 10);
      steps.push({
        input: `${x}, ${y}`,
        computation: `${x} + ${y} + carry = ${x + y} + ${carry} = ${sum}`,
        output: `${sum % 10}`,
        variables: `carry: ${next}`,
        remaining: `${spellDigits(left.slice(0, rest))} + ${spellDigits(right.slice(0, rest))}`,
      });
      carry = next;
    };
    for (let i = count - 1; i >= 0; i--) column(left[i], right[i], i);
    if (carry > 0) column(0, 0, 0);
    return steps;
  },
};
