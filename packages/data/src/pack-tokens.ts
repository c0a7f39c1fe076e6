import type { TextDocument } from './text.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Token ids in a row; two bytes each where the vocabulary allows it. */
export type Tokens = Uint16Array | Int32Array;

/**
 * The tokens of all documents in a row, as language models are pre-trained on them: no padding, windows run over the
 * ends of documents. Each document is followed by the end-of-text token where the tokenizer has one.
 * @returns a `Uint16Array` for vocabularies of at most 65536 tokens, else an `Int32Array`.
 */
export function packTokens(
  documents: Iterable<Pick<TextDocument, 'text'>>,
  tokenizer: Pick<Tokenizer, 'encode' | 'eosTokenId' | 'vocabSize'>,
): Tokens {
  const end = tokenizer.eosTokenId === undefined ? [] : [tokenizer.eosTokenId];
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
  for (const { text } of documents) {
    append(tokenizer.encode(text));
    append(end);
  }
  return tokens.slice(0, length);
}
