import { ConfigError, closestNames, FormatError, quote } from '@ashlar/tensor';
import { ByteFallbackDecoder, Tokenizer as Library, SequenceDecoder } from '@huggingface/tokenizers';
import { rememberPreTokens } from './remember-pre-tokens.ts';
import { StreamDecoder } from './stream-decoder.ts';
import {
  checkTokenizerConfig,
  checkTokenizerJson,
  type TokenizerConfig,
  type TokenizerJson,
} from './tokenizer-json.ts';

/** What tokenizers usually call their special tokens, for one whose config does not say; tried in this order. */
const USUAL_NAMES = {
  bos_token: ['<s>', '<bos>', '<|begin_of_text|>', '<|startoftext|>', '<|endoftext|>'],
  eos_token: ['<|endoftext|>', '</s>', '<eos>', '<|end_of_text|>'],
  pad_token: ['<pad>', '[PAD]', '<|pad|>', '<|finetune_right_pad_id|>'],
} as const;

export interface EncodeOptions {
  /** Whether the tokenizer's post-processor adds what it adds (Llama's `<s>`, BERT's `[CLS]` …); default false. */
  addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Whether special tokens are left out; default true. */
  skipSpecialTokens?: boolean;
}

/**
 * Text to token ids and back, as a Hugging Face `tokenizer.json` describes it; `loadTokenizer` reads one from a folder.
 *
 * With a byte-level tokenizer without normalizer (GPT-2, Llama 3, all that `trainBpe` makes) `decode(encode(text))` is
 * `text`, whatever it holds, except that lone surrogates come back as U+FFFD, as `TextEncoder` makes of them. A special
 * token written out in `text` (`<|endoftext|>`) becomes that token, as in Python; `decode` leaves it out by default.
 */
export class Tokenizer {
  /** The token that begins a text, if any. */
  readonly bosTokenId: number | undefined;
  /** The token that ends a text, if any. */
  readonly eosTokenId: number | undefined;
  /** The token that fills up short texts, if any. */
  readonly padTokenId: number | undefined;
  /** The largest token id plus one, added tokens included: the rows that an embedding needs. */
  readonly vocabSize: number;
  readonly #library: Library;
  readonly #name: string;
  readonly #specialIds: ReadonlySet<number>;

  /**
   * @param json what `tokenizer.json` holds.
   * @param config what `tokenizer_config.json` holds. It names the tokens that begin, end and fill up a text; for those
   *   that it does not mention, special tokens with a usual name are taken.
   * @param name what errors call the file.
   * @throws FormatError for anything that is not such a description.
   */
  constructor(json: TokenizerJson, config: TokenizerConfig = {}, name = 'tokenizer.json') {
    const checked = checkTokenizerJson(json, name);
    const special = (checked.added_tokens ?? []).filter((token) => token.special);
    this.#name = name;
    this.#library = createLibrary(checked, checkTokenizerConfig(config, `The config of ${name}`), name);
    this.#specialIds = new Set(special.map(({ id }) => id));
    this.vocabSize = this.#library.model?.vocab.length ?? 0;

    const idOf = (role: keyof typeof USUAL_NAMES): number | undefined => {
      const named = config[role];
      if (named === null) return undefined;
      if (named === undefined) {
        const usual = USUAL_NAMES[role].find((token) => special.some(({ content }) => content === token));
        return usual === undefined ? undefined : this.tokenToId(usual);
      }
      const token = typeof named === 'string' ? named : named.content;
      const id = this.tokenToId(token);
      if (id !== undefined) return id;
      const closest =
        closestNames(
          token,
          special.map(({ content }) => content),
        ).join(', ') || 'none';
      throw new FormatError(
        `The config of ${name}: ${role} is ${token}, but there is no such token. Closest: ${closest}.`,
      );
    };
    this.bosTokenId = idOf('bos_token');
    this.eosTokenId = idOf('eos_token');
    this.padTokenId = idOf('pad_token');
  }

  /**
   * The token ids of `text`.
   * @throws ConfigError for what is not a string, or holds something that the vocabulary has no token for; FormatError
   *   where the file turns out to be broken only now.
   */
  encode(text: string, { addSpecialTokens = false }: EncodeOptions = {}): Int32Array {
    if (typeof text !== 'string') {
      throw new ConfigError(`Tokenizer.encode: text is of type ${typeof text}; it may be a string`);
    }
    const { ids, tokens } = blame(this.#name, () =>
      this.#library.encode(text, { add_special_tokens: addSpecialTokens }),
    );
    // The library's types promise what it does not hold where there is no token for the unknown.
    const unknown = (ids as (number | undefined)[]).indexOf(undefined);
    if (unknown >= 0) throw new ConfigError(`Tokenizer.encode: there is no token for ${quote(tokens[unknown])}`);
    return Int32Array.from(ids);
  }

  /**
   * The text of token ids. Incomplete UTF-8 becomes U+FFFD; ids that no token has become nothing, as in Python. Spaces
   * are never cleaned up, whatever `clean_up_tokenization_spaces` says: that would change the text.
   */
  decode(ids: ArrayLike<number>, { skipSpecialTokens = true }: DecodeOptions = {}): string {
    const known = Array.from(ids).filter(
      (id) => this.idToToken(id) !== undefined && !(skipSpecialTokens && this.#specialIds.has(id)),
    );
    if (known.length === 0) return '';
    return blame(this.#name, () => this.#library.decode(known, { clean_up_tokenization_spaces: false }));
  }

  /** Decodes tokens as a model makes them, giving out only whole characters. */
  streamDecoder({ skipSpecialTokens = true }: DecodeOptions = {}): StreamDecoder {
    return new StreamDecoder((ids) => this.decode(ids, { skipSpecialTokens }));
  }

  /** The id of a token in its written form (byte-level tokens write a space as 'Ġ'). */
  tokenToId(token: string): number | undefined {
    return this.#library.token_to_id(token);
  }

  /** The written form of the token `id`. */
  idToToken(id: number): string | undefined {
    return this.#library.id_to_token(id);
  }
}

function createLibrary(json: TokenizerJson, config: TokenizerConfig, name: string): Library {
  const absent = { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
  return blame(name, () => {
    const library = new Library({ ...absent, ...json }, config);
    rememberPreTokens(library);
    keepByteOrderMarks(library);
    // Much of the file is first looked at here.
    library.encode('a trial');
    return library;
  });
}

/** What the library does with a file; where it trips, the file is wrong in a way that no check has foreseen. */
function blame<T>(name: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FormatError(`${name}: not a tokenizer that can be read: ${reason}`, { cause: error });
  }
}

/** The library's decoder of single bytes takes U+FEFF at the beginning of a run of them for a byte order mark. */
function keepByteOrderMarks({ decoder }: Library): void {
  for (const each of decoder instanceof SequenceDecoder ? decoder.decoders : [decoder]) {
    if (each instanceof ByteFallbackDecoder) each.text_decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  }
}
