import { ConfigError, checkInteger, type Rng } from '@ashlar/tensor';
import { type Sequences, sequenceTask } from './copy.ts';
import type { LengthTask } from './task.ts';

type Strings = readonly string[];

const UNARY: Readonly<Record<string, (x: Strings) => Strings>> = {
  copy: (x) => x,
  reverse: (x) => x.toReversed(),
  shift: ([first, ...rest]) => [...rest, first],
  swap_first_last: (x) => (x.length < 2 ? x : [x[x.length - 1], ...x.slice(1, -1), x[0]]),
  repeat: (x) => [...x, ...x],
  echo: (x) => [...x, x[x.length - 1]],
};

const BINARY: Readonly<Record<string, (x: Strings, y: Strings) => Strings>> = {
  append: (x, y) => [...x, ...y],
  prepend: (x, y) => [...y, ...x],
  remove_first: (_, y) => y,
  remove_second: (x) => x,
};

/** The 520 symbols A1 … Z20. */
const symbolName = (i: number): string => `${String.fromCharCode(65 + (i % 26))}${1 + Math.floor(i / 26)}`;
const MOST_SYMBOLS = 520;
/** Problems with longer results are drawn again: `repeat` doubles. */
const LONGEST = 64;

interface Expression {
  readonly words: Strings;
  readonly value: Strings;
}

/** An expression of `functions` functions, in prefix notation, a comma between two arguments. */
function draw(functions: number, symbols: number, rng: Rng): Expression {
  if (functions === 0) {
    const words = Array.from({ length: rng.integer(2, 6) }, () => symbolName(rng.integer(0, symbols)));
    return { words, value: words };
  }
  const names = [...Object.keys(UNARY), ...Object.keys(BINARY)];
  const name = names[rng.integer(0, names.length)];
  if (Object.hasOwn(UNARY, name)) {
    const { words, value } = draw(functions - 1, symbols, rng);
    return { words: [name, ...words], value: UNARY[name](value) };
  }
  const inFirst = rng.integer(0, functions);
  const [x, y] = [draw(inFirst, symbols, rng), draw(functions - 1 - inFirst, symbols, rng)];
  return { words: [name, ...x.words, ',', ...y.words], value: BINARY[name](x.value, y.value) };
}

/**
 * PCFG SET: results of nested string functions, by the number of functions. The ten functions are the published ones, all as
 * likely; strings have 2 to 5 symbols, results at most 64. The published probabilities, fitted to natural language, are not
 * reproduced.
 *
 * Source: Hupkes et al. 2020, arXiv 1908.08351.
 */
export const pcfg: LengthTask<Sequences> = sequenceTask(
  'results of nested string functions (PCFG SET), by functions',
  ({ source }) => `Solve: ${source.join(' ')} `,
  (length, rng, { symbols = MOST_SYMBOLS }) => {
    checkInteger('lengthTask', 'symbols', symbols);
    if (symbols > MOST_SYMBOLS) {
      throw new ConfigError(`lengthTask: symbols is ${symbols}; there are ${MOST_SYMBOLS}`);
    }
    for (;;) {
      const { words, value } = draw(length, symbols, rng);
      if (value.length <= LONGEST) return { source: words, target: value };
    }
  },
);
