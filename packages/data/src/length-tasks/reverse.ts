import { NEXT, type Sequences, sequenceTask } from './copy.ts';
import { drawSymbols } from './symbols.ts';
import type { LengthTask } from './task.ts';

const reverseTask = (
  description: string,
  target: (source: string[], reversed: string[]) => string[],
): LengthTask<Sequences> =>
  sequenceTask(
    description,
    ({ source }) => `Reverse: ${source.join(' ')} `,
    (length, rng, { symbols = 100 }) => {
      const source = drawSymbols(length, symbols, rng);
      return { source, target: target(source, source.toReversed()) };
    },
  );

export const reverse: LengthTask<Sequences> = reverseTask('reversing a random sequence', (_, reversed) => reversed);

export const reverseTwice: LengthTask<Sequences> = reverseTask(
  'writing a random sequence reversed twice',
  (_, reversed) => [...reversed, NEXT, ...reversed],
);

/** Reversed, then as it came. */
export const reverseCopy: LengthTask<Sequences> = reverseTask(
  'reversing a random sequence, then copying it',
  (source, reversed) => [...reversed, NEXT, ...source],
);
