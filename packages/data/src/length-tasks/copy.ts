import { ConfigError } from '@ashlar/tensor';
import { drawSymbols } from './symbols.ts';
import type { LengthTask } from './task.ts';

/** Symbols in, symbols out. */
export interface Sequences {
  readonly source: readonly string[];
  readonly target: readonly string[];
}

/** What stands between two sequences of a target. */
export const NEXT = '[NEXT]';

/** A task with the symbols themselves for an answer. */
export function sequenceTask(
  description: string,
  prompt: (sequences: Sequences) => string,
  draw: LengthTask<Sequences>['draw'],
): LengthTask<Sequences> {
  const written = ({ target }: Sequences): string => target.join(' ');
  return {
    description,
    minLength: 1,
    draw,
    prompt,
    target: written,
    answer: written,
    extract: (text) => text.trim().replaceAll(/\s+/g, ' '),
  };
}

const copyTask = (description: string, draw: LengthTask<Sequences>['draw']): LengthTask<Sequences> =>
  sequenceTask(description, ({ source }) => `Copy: ${source.join(' ')} `, draw);

/** `times` copies of one symbol. */
const repeated = (symbol: string, times: number): string[] => Array.from({ length: times }, () => symbol);

/** One symbol, as often as it stands in the prompt. */
export const repeat: LengthTask<Sequences> = copyTask(
  'copying one symbol repeated',
  (length, rng, { symbols = 100 }) => {
    const [symbol] = drawSymbols(1, symbols, rng);
    return { source: repeated(symbol, length), target: repeated(symbol, length) };
  },
);

/** One symbol, twice as often as it stands in the prompt. */
export const repeatDouble: LengthTask<Sequences> = copyTask(
  'copying one symbol repeated, twice as often',
  (length, rng, { symbols = 100 }) => {
    const [symbol] = drawSymbols(1, symbols, rng);
    return { source: repeated(symbol, length), target: repeated(symbol, 2 * length) };
  },
);

/** One symbol repeated, another in its place. */
export const replace: LengthTask<Sequences> = sequenceTask(
  'replacing one symbol repeated by another',
  ({ source, target }) => `Replace ${source[0]} with ${target[0]} in ${source.join(' ')} `,
  (length, rng, { symbols = 100 }) => {
    if (symbols < 2) throw new ConfigError(`lengthTask: symbols is ${symbols}; replacing needs at least 2`);
    const [from] = drawSymbols(1, symbols, rng);
    let [to] = drawSymbols(1, symbols, rng);
    while (to === from) [to] = drawSymbols(1, symbols, rng);
    return { source: repeated(from, length), target: repeated(to, length) };
  },
);

/** A random sequence. */
export const copy: LengthTask<Sequences> = copyTask('copying a random sequence', (length, rng, { symbols = 100 }) => {
  const source = drawSymbols(length, symbols, rng);
  return { source, target: source };
});

/** A random sequence, twice. */
export const copyTwice: LengthTask<Sequences> = copyTask(
  'copying a random sequence twice',
  (length, rng, { symbols = 100 }) => {
    const source = drawSymbols(length, symbols, rng);
    return { source, target: [...source, NEXT, ...source] };
  },
);
