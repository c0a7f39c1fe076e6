import TinyQueue from 'tinyqueue';

/** A pre-token, split into token ids, and how often it comes. */
export interface Word {
  tokens: number[];
  count: number;
}

/** Two neighbouring tokens. */
interface Pair {
  a: number;
  b: number;
  /** How often they are neighbours now. */
  count: number;
  /** Indices of the words in which they are or once were neighbours, ascending per merge; some may come twice. */
  words: number[];
}

/** A pair in the queue, with its count when it was put there. */
interface Candidate {
  pair: Pair;
  count: number;
}

/**
 * Merges the most frequent pair until there are `vocabSize` tokens or no pair comes `minFrequency` times.
 *
 * Counts are kept up to date by the neighbours of each merge. The queue is put right lazily: every pair has a candidate
 * in it with at least its present count, and one that turns out to promise too much goes back with what is true.
 * @param words split into single bytes; they are merged in place.
 * @param tokens the alphabet; new tokens are appended. Two merges may make the same token.
 * @returns the distinct pairs in the order of merging, as ids.
 */
export function learnMerges(
  words: readonly Word[],
  tokens: string[],
  vocabSize: number,
  minFrequency: number,
): [number, number][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const pairs = new Map<number, Pair>();
  const risen = new Set<Pair>();

  function change(a: number, b: number, by: number, word: number): void {
    const key = a * vocabSize + b;
    let pair = pairs.get(key);
    if (pair === undefined) {
      pair = { a, b, count: 0, words: [] };
      pairs.set(key, pair);
    }
    pair.count += by;
    if (by > 0) {
      if (pair.words.at(-1) !== word) pair.words.push(word);
      risen.add(pair);
    }
  }

  words.forEach(({ tokens, count }, word) => {
    for (let i = 1; i < tokens.length; i++) change(tokens[i - 1], tokens[i], count, word);
  });
  const queue = new TinyQueue<Candidate>(Array.from(pairs.values(), candidate), compare);
  risen.clear();

  const merges = new Map<number, [number, number]>();
  while (tokens.length < vocabSize) {
    const best = queue.pop();
    if (best === undefined || best.count < minFrequency) break;
    const { pair, count } = best;
    if (count !== pair.count) {
      if (count > pair.count) queue.push(candidate(pair));
      continue;
    }

    const token = tokens[pair.a] + tokens[pair.b];
    let id = ids.get(token);
    if (id === undefined) {
      id = tokens.push(token) - 1;
      ids.set(token, id);
    }
    const key = pair.a * vocabSize + pair.b;
    // A pair comes up again where another merge has made one of its tokens anew; its rule stands already.
    if (!merges.has(key)) merges.set(key, [pair.a, pair.b]);
    for (const word of pair.words) merge(words[word], pair, id, (a, b, by) => change(a, b, by, word));
    pairs.delete(key);
    for (const pair of risen) queue.push(candidate(pair));
    risen.clear();
  }
  return [...merges.values()];
}

/** Puts `id` for each `a b` in the word, from the left, and reports how its pairs change. */
function merge(
  { tokens, count }: Word,
  { a, b }: Pair,
  id: number,
  change: (a: number, b: number, by: number) => void,
): void {
  let to = 0;
  for (let from = 0; from < tokens.length; ) {
    if (tokens[from] !== a || tokens[from + 1] !== b) {
      tokens[to++] = tokens[from++];
      continue;
    }
    const next = tokens[from + 2];
    if (to > 0) {
      change(tokens[to - 1], a, -count);
      change(tokens[to - 1], id, count);
    }
    change(a, b, -count);
    if (next !== undefined) {
      change(b, next, -count);
      change(id, next, count);
    }
    tokens[to++] = id;
    from += 2;
  }
  tokens.length = to;
}

function candidate(pair: Pair): Candidate {
  return { pair, count: pair.count };
}

/** The most frequent first; of equals the one with the smaller ids. */
function compare(x: Candidate, y: Candidate): number {
  return y.count - x.count || x.pair.a - y.pair.a || x.pair.b - y.pair.b;
}
