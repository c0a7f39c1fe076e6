import { ConfigError, quote } from '@ashlar/tensor';
import { SYMBOLS, symbolSet } from './symbols.ts';
import { type LengthTask, spell } from './task.ts';

export interface Sorting<Item> {
  readonly items: readonly Item[];
}

export interface SymbolSorting extends Sorting<string> {
  /** The symbols, the smallest first. Default `SYMBOLS`. */
  readonly order?: readonly string[];
}

/** @param rank what an item is sorted by. */
function sortingTask<Item, Instance extends Sorting<Item>>(
  of: Pick<LengthTask<Instance>, 'description' | 'draw'>,
  rank: (item: Item, instance: Instance) => number,
  write: (item: Item) => string,
): LengthTask<Instance> {
  const list = (items: readonly Item[]): string => items.map(write).join(', ');
  const sorted = (instance: Instance): Item[] =>
    instance.items.toSorted((a, b) => rank(a, instance) - rank(b, instance));
  return {
    ...of,
    minLength: 1,
    prompt: ({ items }) => `Sort the following list [ ${list(items)} ]. `,
    target: (instance) => `The sorted list is [ ${list(sorted(instance))} ].`,
    answer: (instance) => list(sorted(instance)),
    extract: (text) =>
      /^.*The sorted list is\s*\[(.*)\]/s.exec(text)?.[1].replaceAll(/\s+/g, ' ').replaceAll(' ,', ',').trim(),
    // Selection sort: the smallest of the rest changes places with the first of the rest.
    steps(instance) {
      const rest = [...instance.items];
      return instance.items.map(() => {
        const input = write(rest[0]);
        const ranks = rest.map((item) => rank(item, instance));
        const least = ranks.indexOf(Math.min(...ranks));
        const output = write(rest[least]);
        rest[least] = rest[0];
        rest.shift();
        return { input, computation: 'The minimum of the unsorted portion', output, remaining: `[ ${list(rest)} ]` };
      });
    },
  };
}

const MOST = 50;

/** Single symbols. @throws ConfigError for one that is not in the order. */
export const sortSymbols: LengthTask<SymbolSorting> = sortingTask<string, SymbolSorting>(
  {
    description: 'sorting single symbols',
    draw(length, rng, { symbols = MOST }) {
      const all = symbolSet(symbols, MOST);
      return { items: Array.from({ length }, () => all[rng.integer(0, symbols)]) };
    },
  },
  (symbol, { order = SYMBOLS }) => {
    const rank = order.indexOf(symbol);
    if (rank < 0) throw new ConfigError(`sort-symbols: ${quote(symbol)} is not in the order of symbols; give order`);
    return rank;
  },
  (symbol) => symbol,
);

/** Numbers 10 .. 9999. */
export const sortNumbers: LengthTask<Sorting<number>> = sortingTask<number, Sorting<number>>(
  {
    description: 'sorting numbers of 2 to 4 digits',
    draw: (length, rng) => ({ items: Array.from({ length }, () => rng.integer(10, 10000)) }),
  },
  (number) => number,
  spell,
);
