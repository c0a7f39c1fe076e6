import { ConfigError, quote } from '@ashlar/tensor';
import { BYTE_CHARS, PRE_TOKEN, toByteChars } from './byte-level.ts';
import { learnMerges, type Word } from './learn-merges.ts';
import type { BpeTokenizerJson } from './tokenizer-json.ts';
import { visitAll } from './visit-all.ts';

export interface TrainBpeOptions {
  /** Tokens in all: special ones, the 256 bytes, merges; default 2048. Fewer where the text runs out of pairs. */
  vocabSize?: number;
  /** Tokens that stand for no text, with the first ids; default `['<|endoftext|>']`. */
  specialTokens?: readonly string[];
  /** How often a pair must come to be merged; default 2. */
  minFrequency?: number;
}

/**
 * Learns a byte-level byte-pair encoding: starting from the 256 bytes, the most frequent pair of neighbouring tokens
 * becomes a token, again and again. Pairs cross neither GPT-2's pre-tokens nor texts.
 *
 * Of equally frequent pairs the one with the smaller first id goes first, then the one with the smaller second, as in
 * Python's `BpeTrainer`; so the result depends on the texts, not on their order. Texts are read one at a time and not
 * kept.
 *
 * Source: Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units" (2016,
 * arXiv:1508.07909); on bytes, Radford et al., "Language models are unsupervised multitask learners" (2019).
 * @returns a `tokenizer.json` for `Tokenizer`, `@huggingface/tokenizers` and Python's `tokenizers` and `transformers`:
 *   special tokens, then the bytes in the order of their characters, then the merges in the order they were made. A
 *   promise of it where `texts` are asynchronous.
 * @throws ConfigError for options out of range, texts that are not strings, or no text at all.
 */
export function trainBpe(texts: Iterable<string>, options?: TrainBpeOptions): BpeTokenizerJson;
export function trainBpe(texts: AsyncIterable<string>, options?: TrainBpeOptions): Promise<BpeTokenizerJson>;
export function trainBpe(
  texts: Iterable<string> | AsyncIterable<string>,
  options: TrainBpeOptions = {},
): BpeTokenizerJson | Promise<BpeTokenizerJson> {
  const { vocabSize, specialTokens, minFrequency } = checkOptions(options);
  if (typeof texts === 'string') {
    throw new ConfigError('trainBpe: texts is one string; it may be an array or another iterable of strings');
  }
  const counts = new Map<string, number>();
  return visitAll(
    texts,
    (text) => countPreTokens(text, counts),
    () => {
      if (counts.size === 0) throw new ConfigError('trainBpe: texts is empty; it may give at least one text');
      const tokens = [...specialTokens, ...BYTE_CHARS.toSorted()];
      const ids = new Map(tokens.map((token, id) => [token, id]));
      const words = Array.from(counts, ([chars, count]): Word => {
        return { tokens: Array.from(chars, (char) => ids.get(char)!), count };
      });
      const merges = learnMerges(words, tokens, vocabSize, minFrequency);
      return tokenizerJson(specialTokens, tokens, merges);
    },
  );
}

/** Adds how often each pre-token comes, by its byte characters. */
function countPreTokens(text: string, counts: Map<string, number>): void {
  if (typeof text !== 'string') {
    throw new ConfigError(`trainBpe: texts gave a value of type ${typeof text}; it may give strings`);
  }
  const own = new Map<string, number>();
  for (const preToken of text.match(PRE_TOKEN) ?? []) own.set(preToken, (own.get(preToken) ?? 0) + 1);
  for (const [preToken, count] of own) {
    const chars = toByteChars(preToken);
    counts.set(chars, (counts.get(chars) ?? 0) + count);
  }
}

function tokenizerJson(
  specialTokens: readonly string[],
  tokens: readonly string[],
  merges: readonly (readonly [number, number])[],
): BpeTokenizerJson {
  const model = {
    type: 'BPE' as const,
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    // Not by assignment, which would take a token '__proto__' for the prototype.
    vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
    merges: merges.map(([a, b]): [string, string] => [tokens[a], tokens[b]]),
  };
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
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model,
  };
}

function checkOptions(options: TrainBpeOptions): Required<TrainBpeOptions> {
  const { vocabSize = 2048, specialTokens = ['<|endoftext|>'], minFrequency = 2 } = options;
  specialTokens.forEach((token, i) => {
    if (typeof token !== 'string' || token === '' || BYTE_CHARS.includes(token) || specialTokens.indexOf(token) < i) {
      throw new ConfigError(
        `trainBpe: specialTokens[${i}] is ${quote(token)}; it may be a string of at least two characters, unlike the others`,
      );
    }
  });
  const smallest = specialTokens.length + BYTE_CHARS.length;
  if (!(Number.isInteger(vocabSize) && vocabSize >= smallest && vocabSize <= 2 ** 24)) {
    throw new ConfigError(
      `trainBpe: vocabSize is ${vocabSize}; it may be a whole number from ${smallest}, for the bytes and the special tokens, to 2^24`,
    );
  }
  if (!(Number.isInteger(minFrequency) && minFrequency >= 1)) {
    throw new ConfigError(`trainBpe: minFrequency is ${minFrequency}; it may be a whole number >= 1`);
  }
  return { vocabSize, specialTokens, minFrequency };
}
