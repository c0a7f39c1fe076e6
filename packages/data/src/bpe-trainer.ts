import { ConfigError } from '@ashlar/tensor';

export interface TrainBpeOptions {
  /** Tokens in all: special ones, the 256 bytes, and merges. Default 2048. */
  vocabSize?: number;
  /** Default `['<|endoftext|>']`; they get the first ids. */
  specialTokens?: readonly string[];
  /** Pairs seen less often are not merged. Default 2. */
  minFrequency?: number;
}

/** The content of a `tokenizer.json` as Hugging Face's tokenizers reads it. */
export interface TokenizerJson {
  readonly [field: string]: unknown;
  readonly model: {
    readonly [field: string]: unknown;
    readonly type: 'BPE';
    readonly vocab: Record<string, number>;
    readonly merges: [string, string][];
  };
}

/** GPT-2's split of text into words, numbers, punctuation and white space. */
const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/**
 * Trains a byte-level byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909, on bytes as GPT-2 has it): starting from
 * the 256 bytes, the most frequent pair of neighbouring tokens within a word becomes a token, again and again. Of equally
 * frequent pairs the one with the smaller ids goes first, as in Hugging Face's trainer.
 * @throws ConfigError unless `vocabSize` holds the special tokens and the bytes.
 */
export function trainBpe(texts: Iterable<string>, options: TrainBpeOptions = {}): TokenizerJson {
  const { vocabSize = 2048, specialTokens = ['<|endoftext|>'], minFrequency = 2 } = options;
  const least = specialTokens.length + 256;
  if (!Number.isInteger(vocabSize) || vocabSize < least) {
    throw new ConfigError(
      `vocabSize is ${vocabSize}; it must be an integer of at least ${least} (bytes and special tokens).`,
    );
  }
  const tokens = [...specialTokens, ...BYTE_CHARACTERS];
  const words = countWords(texts);
  const pairs = new PairCounts(words, specialTokens.length);
  const merges: [string, string][] = [];
  while (tokens.length < vocabSize) {
    const best = pairs.mostFrequent();
    if (best === undefined || best.count < minFrequency) break;
    pairs.merge(best.pair, tokens.length);
    const [left, right] = [tokens[best.pair[0]], tokens[best.pair[1]]];
    merges.push([left, right]);
    tokens.push(left + right);
  }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}

/** GPT-2's printable character for each byte, in the order of the characters, as Hugging Face numbers them. */
const BYTE_TO_CHARACTER: readonly string[] = (() => {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
})();
const BYTE_CHARACTERS: readonly string[] = [...BYTE_TO_CHARACTER].sort();
const BYTE_RANK: readonly number[] = BYTE_TO_CHARACTER.map((character) => BYTE_CHARACTERS.indexOf(character));

interface Word {
  symbols: number[];
  count: number;
}

function countWords(texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const [word] of text.matchAll(WORDS)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return counts;
}

type Pair = readonly [number, number];

/** How often each pair of neighbouring symbols occurs, kept up to date while pairs merge. */
class PairCounts {
  readonly #words: Word[];
  readonly #counts = new Map<number, number>();
  /** The words in which a pair occurs, or did. */
  readonly #places = new Map<number, Set<number>>();
  readonly #heap = new PairHeap();

  constructor(words: ReadonlyMap<string, number>, firstByte: number) {
    const encoder = new TextEncoder();
    this.#words = Array.from(words, ([word, count]) => ({
      symbols: Array.from(encoder.encode(word), (byte) => firstByte + BYTE_RANK[byte]),
      count,
    }));
    for (const [index, { symbols, count }] of this.#words.entries()) {
      for (let i = 1; i < symbols.length; i++) this.#add(symbols[i - 1], symbols[i], count, index);
    }
    for (const [key, count] of this.#counts) this.#heap.push({ key, count });
  }

  mostFrequent(): { pair: Pair; count: number } | undefined {
    for (let top = this.#heap.pop(); top !== undefined; top = this.#heap.pop()) {
      const { key, count } = top;
      const now = this.#counts.get(key) ?? 0;
      // Entries are not removed when a count changes: one that is out of date goes back with the new count.
      if (now === count) return { pair: [Math.floor(key / KEY), key % KEY], count };
      if (now > 0 && now < count) this.#heap.push({ key, count: now });
    }
    return undefined;
  }

  /** Replaces the pair by `symbol` in every word. */
  merge([left, right]: Pair, symbol: number): void {
    const touched = new Set<number>();
    for (const index of this.#places.get(left * KEY + right) ?? []) {
      const word = this.#words[index];
      const { symbols, count } = word;
      const merged: number[] = [];
      let found = false;
      for (let i = 0; i < symbols.length; i++) {
        if (symbols[i] === left && symbols[i + 1] === right) {
          merged.push(symbol);
          found = true;
          i++;
        } else {
          merged.push(symbols[i]);
        }
      }
      if (!found) continue;
      for (let i = 1; i < symbols.length; i++) this.#add(symbols[i - 1], symbols[i], -count, index);
      for (let i = 1; i < merged.length; i++) {
        this.#add(merged[i - 1], merged[i], count, index);
        if (merged[i - 1] === symbol || merged[i] === symbol) touched.add(merged[i - 1] * KEY + merged[i]);
      }
      word.symbols = merged;
    }
    this.#counts.delete(left * KEY + right);
    this.#places.delete(left * KEY + right);
    for (const key of touched) this.#heap.push({ key, count: this.#counts.get(key) as number });
  }

  #add(left: number, right: number, count: number, word: number): void {
    const key = left * KEY + right;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + count);
    if (count < 0) return;
    const places = this.#places.get(key);
    if (places === undefined) this.#places.set(key, new Set([word]));
    else places.add(word);
  }
}

/** Two ids in one number. */
const KEY = 2 ** 24;

interface Entry {
  key: number;
  count: number;
}

/** A binary heap: the highest count first, then the smallest key. */
class PairHeap {
  readonly #entries: Entry[] = [];

  push(entry: Entry): void {
    const entries = this.#entries;
    let i = entries.push(entry) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(entry, entries[parent])) break;
      entries[i] = entries[parent];
      i = parent;
    }
    entries[i] = entry;
  }

  pop(): Entry | undefined {
    const entries = this.#entries;
    const top = entries[0];
    const last = entries.pop();
    if (last === undefined || entries.length === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= entries.length) break;
      if (child + 1 < entries.length && before(entries[child + 1], entries[child])) child++;
      if (!before(entries[child], last)) break;
      entries[i] = entries[child];
      i = child;
    }
    entries[i] = last;
    return top;
  }
}

const before = (a: Entry, b: Entry): boolean => a.count > b.count || (a.count === b.count && a.key < b.key);
