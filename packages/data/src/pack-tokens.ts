import { ConfigError } from '@ashlar/tensor';
import type { TextDocument } from './text.ts';
import type { Tokenizer } from './tokenizer.ts';
import { visitAll } from './visit-all.ts';

/** Token ids in a row; two bytes each where the vocabulary allows it. */
export type Tokens = Uint16Array | Int32Array;

type Text = TextDocument | string;

export interface PackOptions {
  /** Whether the tokenizer's end-of-text token follows each document; default true. */
  eos?: boolean;
  /** Whether the tokenizer's beginning-of-text token precedes each document; default false. */
  bos?: boolean;
}

/**
 * The tokens of all documents in a row, as language models are pre-trained on them: no padding, windows run over the
 * ends of documents. Documents are read one at a time and not kept. What the tokenizer's post-processor would add is
 * left out.
 * @returns a `Uint16Array` for vocabularies of at most 65536 tokens, else an `Int32Array`; a promise of it where
 *   `documents` are asynchronous.
 * @throws ConfigError if the tokenizer lacks a token asked for.
 */
export function packTokens(documents: Iterable<Text>, tokenizer: Tokenizer, options?: PackOptions): Tokens;
export function packTokens(
  documents: AsyncIterable<Text>,
  tokenizer: Tokenizer,
  options?: PackOptions,
): Promise<Tokens>;
export function packTokens(
  documents: Iterable<Text> | AsyncIterable<Text>,
  tokenizer: Tokenizer,
  { eos = true, bos = false }: PackOptions = {},
): Tokens | Promise<Tokens> {
  const before = bos ? [required(tokenizer.bosTokenId, 'bos')] : [];
  const after = eos ? [required(tokenizer.eosTokenId, 'eos')] : [];
  const create = (length: number): Tokens =>
    tokenizer.vocabSize <= 0x10000 ? new Uint16Array(length) : new Int32Array(length);

  let tokens = create(1024);
  let length = 0;
  const append = (ids: ArrayLike<number>): void => {
    if (length + ids.length > tokens.length) {
      const larger = create(Math.max(length + ids.length, 2 * tokens.length));
      larger.set(tokens.subarray(0, length));
      tokens = larger;
    }
    tokens.set(ids, length);
    length += ids.length;
  };
  return visitAll(
    documents,
    (document) => {
      append(before);
      append(tokenizer.encode(typeof document === 'string' ? document : document.text));
      append(after);
    },
    () => tokens.slice(0, length),
  );
}

function required(id: number | undefined, option: 'bos' | 'eos'): number {
  if (id !== undefined) return id;
  throw new ConfigError(
    `packTokens: ${option} is true; it may be only false with this tokenizer, which has no ${option} token. ` +
      `Name one in tokenizer_config.json as ${option}_token.`,
  );
}
