import { ConfigError } from '@ashlar/tensor';
import { BYTE_CHARACTERS, PRE_TOKEN } from './byte-level.ts';
import { learnMerges, type Word } from './learn-merges.ts';
import type { TokenizerJson } from './tokenizer-json.ts';

export interface TrainBpeOptions {
  /** Tokens in all, special ones and the 256 bytes included; fewer only where the text holds too few pairs. */
  vocabSize?: number;
  /** Tokens outside the text; they get the first ids, in this order. */
  specialTokens?: readonly string[];
  /** A pair seen less often is not merged. */
  minFrequency?: number;
}

/** Far beyond any real vocabulary; a pair of ids still fits one number. */
const MAX_VOCAB_SIZE = 2 ** 24;

/**
 * Trains a byte-level BPE tokenizer: starting from the 256 bytes, the pair of neighbouring tokens that is most frequent
 * within GPT-2's pre-tokens becomes a token of its own, until there are `vocabSize`. Of equally frequent pairs the
 * one with the smallest ids comes first, as in Hugging Face's trainer; the same texts always give the same tokenizer.
 *
 * @param texts The documents; no token spans two of them.
 * @returns The contents of a `tokenizer.json`, which `Tokenizer` and Hugging Face's `tokenizers` (Python, JS) load.
 * @throws ConfigError for an option that is out of range.
 *
 * Source: Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units" (2016,
 * arXiv:1508.07909); on bytes: Radford et al., "Language models are unsupervised multitask learners" (2019).
 */
export function trainBpe(texts: Iterable<string>, options: TrainBpeOptions = {}): TokenizerJson {
  const { vocabSize = 2048, specialTokens = ['<|endoftext|>'], minFrequency = 2 } = options;
  checkOptions(vocabSize, specialTokens, minFrequency);
  const alphabet = new Set([...specialTokens, ...[...BYTE_CHARACTERS].sort()]);
  if (alphabet.size > vocabSize) {
    throw new ConfigError(
      `trainBpe: vocabSize is ${vocabSize}; it may be ${alphabet.size} or more, for 256 bytes and the specialTokens`,
    );
  }
  const tokens = [...alphabet];
  const merges = learnMerges(splitIntoBytes(texts, tokens), tokens, vocabSize, minFrequency);
  return tokenizerJson(tokens, specialTokens, merges);
}

/** The distinct pre-tokens of the texts, as the ids of their bytes. */
function splitIntoBytes(texts: Iterable<string>, tokens: readonly string[]): Word[] {
  const ids = BYTE_CHARACTERS.map((character) => tokens.indexOf(character));
  const encoder = new TextEncoder();
  return Array.from(countPreTokens(texts), ([text, count]) => ({
    tokens: Array.from(encoder.encode(text), (byte) => ids[byte]),
    count,
  }));
}

/** How often each pre-token occurs. */
function countPreTokens(texts: Iterable<string>): Map<string, number> {
  if (typeof texts === 'string') {
    throw new ConfigError('trainBpe: texts is a string; it may be an array or another iterable of strings');
  }
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const [preToken] of text.matchAll(PRE_TOKEN)) counts.set(preToken, (counts.get(preToken) ?? 0) + 1);
  }
  return counts;
}

function tokenizerJson(
  tokens: readonly string[],
  specialTokens: readonly string[],
  merges: [string, string][],
): TokenizerJson {
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

function checkOptions(vocabSize: number, specialTokens: readonly string[], minFrequency: number): void {
  if (!Number.isInteger(vocabSize) || vocabSize > MAX_VOCAB_SIZE) {
    throw new ConfigError(`trainBpe: vocabSize is ${vocabSize}; it may be a whole number up to ${MAX_VOCAB_SIZE}`);
  }
  if (!Number.isInteger(minFrequency) || minFrequency < 1) {
    throw new ConfigError(`trainBpe: minFrequency is ${minFrequency}; it may be a whole number >= 1`);
  }
  if (specialTokens.some((token) => token === '') || new Set(specialTokens).size < specialTokens.length) {
    throw new ConfigError(
      `trainBpe: specialTokens is ${JSON.stringify(specialTokens)}; it may hold distinct strings that are not empty`,
    );
  }
}
