import { SYMBOLS, symbolSet } from './symbols.ts';
import { type LengthTask, spell } from './task.ts';

export interface Sorting<Item> {
  readonly items: readonly Item[];
}

/** @param rank what is sorted by. */
function sortingTask<Item>(
  of: Pick<LengthTask<Sorting<Item>>, 'description' | 'draw'>,
  rank: (item: Item) => number,
  write: (item: Item) => string,
): LengthTask<Sorting<Item>> {
  const list = (items: readonly Item[]): string => items.map(write).join(', ');
  const sorted = ({ items }: Sorting<Item>): Item[] => items.toSorted((a, b) => rank(a) - rank(b));
  return {
    ...of,
    minLength: 1,
    prompt: ({ items }) => `Sort the following list [ ${list(items)} ]. `,
    target: (instance) => `The sorted list is [ ${list(sorted(instance))} ].`,
    answer: (instance) => list(sorted(instance)),
    extract: (text) =>
      /^.*The sorted list is\s*\[(.*)\]/s.exec(text)?.[1].replaceAll(/\s+/g, ' ').replaceAll(' ,', ',').trim(),
    // Selection sort: the smallest of the rest changes places with the first of the rest.
    steps({ items }) {
      const rest = [...items];
      return items.map(() => {
        const input = write(rest[0]);
        const least = rest.reduce((best, item, i) => (rank(item) < rank(rest[best]) ? i : best), 0);
        const output = write(rest[least]);
        rest[least] = rest[0];
        rest.shift();
        return { input, computation: 'The minimum of the unsorted portion', output, remaining: `[ ${list(rest)} ]` };
      });
    },
  };
}

const RANKS = new Map(SYMBOLS.map((symbol, i) => [symbol, i]));
const MOST = 50;

/** Single symbols, in the order of `SYMBOLS`. */
export const sortSymbols: LengthTask<Sorting<string>> = sortingTask<string>(
  {
    description: 'sorting single symbols',
    draw(length, rng, { symbols = MOST }) {
      const all = symbolSet(symbols, MOST);
      return { items: Array.from({ length }, () => all[rng.integer(0, symbols)]) };
    },
  },
  (symbol) => RANKS.get(symbol) ?? Infinity,
  (symbol) => symbol,
);

/** Numbers 10 .. 9999. */
export const sortNumbers: LengthTask<Sorting<number>> = sortingTask<number>(
  {
    description: 'sorting numbers of 2 to 4 digits',
    draw: (length, rng) => ({ items: Array.from({ length }, () => rng.integer(10, 10000)) }),
  },
  (number) => number,
  spell,
);
