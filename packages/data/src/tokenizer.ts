import { ConfigError, closestNames, FormatError } from '@ashlar/tensor';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { rememberPreTokens } from './remember-pre-tokens.ts';
import { StreamDecoder } from './stream-decoder.ts';
import {
  checkTokenizerConfig,
  checkTokenizerJson,
  type SpecialToken,
  type TokenizerConfig,
  type TokenizerJson,
} from './tokenizer-json.ts';

/** What the usual tokenizers call their special tokens, for a tokenizer that comes without a config. */
const USUAL_NAMES = {
  bos_token: ['<s>', '<bos>', '<|begin_of_text|>', '<|startoftext|>'],
  eos_token: ['<|endoftext|>', '</s>', '<eos>', '<|end_of_text|>'],
  pad_token: ['<pad>', '<|pad|>', '[PAD]'],
} as const;

export interface DecodeOptions {
  /** Whether special tokens are left out; default true. */
  skipSpecialTokens?: boolean;
}

/**
 * A tokenizer in the format of Hugging Face's `tokenizer.json`: text to ids and back.
 *
 * The work is done by `@huggingface/tokenizers`. Byte-level tokenizers, such as those of `trainBpe`, give back exactly
 * the text they were given, with lone surrogates as U+FFFD.
 */
export class Tokenizer {
  /** The id that begins a document, if there is one. */
  readonly bosTokenId: number | undefined;
  /** The id that ends a document, if there is one. */
  readonly eosTokenId: number | undefined;
  /** The id that fills up short rows, if there is one. */
  readonly padTokenId: number | undefined;
  /** The largest id plus one: the rows that an embedding needs. */
  readonly vocabSize: number;
  readonly #tokenizer: HuggingFaceTokenizer;

  /**
   * @param json The contents of `tokenizer.json`.
   * @param config The contents of `tokenizer_config.json`, which names the special tokens. One that it does not mention
   *   is a special token of `json` with a usual name: `<|endoftext|>`, `</s>`, `<s>`, `<pad>` and the like.
   * @throws FormatError where they are not such contents.
   */
  constructor(json: TokenizerJson, config: TokenizerConfig = {}) {
    const checked = checkTokenizerJson(json, 'tokenizer.json');
    const checkedConfig = checkTokenizerConfig(config, 'tokenizer_config.json');
    try {
      this.#tokenizer = new HuggingFaceTokenizer({ ...EMPTY, ...checked }, checkedConfig);
    } catch (error) {
      throw new FormatError(`tokenizer.json: ${(error as Error).message}`, { cause: error });
    }
    rememberPreTokens(this.#tokenizer);
    this.vocabSize = this.#tokenizer.model?.vocab.length ?? 0;
    const special = new Set(checked.added_tokens?.filter((token) => token.special).map((token) => token.content));
    const idOf = (name: keyof typeof USUAL_NAMES): number | undefined => {
      const named = checkedConfig[name];
      const usual = USUAL_NAMES[name].find((token) => special.has(token));
      return this.#specialTokenId(name, named === undefined ? usual : named);
    };
    this.bosTokenId = idOf('bos_token');
    this.eosTokenId = idOf('eos_token');
    this.padTokenId = idOf('pad_token');
  }

  /**
   * The ids of `text`, without special tokens around it. Those written out in the text, as `<|endoftext|>`, become the
   * special token.
   * @throws ConfigError where the vocabulary has neither the text nor a token for what is unknown.
   */
  encode(text: string): Int32Array {
    const { ids, tokens } = this.#tokenizer.encode(text, { add_special_tokens: false });
    const unknown = ids.indexOf(undefined as unknown as number);
    if (unknown !== -1) {
      throw new ConfigError(`encode: the vocabulary has no token for ${JSON.stringify(tokens[unknown])}`);
    }
    return Int32Array.from(ids);
  }

  /**
   * The text of `ids`, as the model's decoder puts it together; spaces before punctuation stay.
   * @throws ConfigError for an id that the vocabulary has not.
   */
  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    const { skipSpecialTokens = true } = options;
    const list = Array.from(ids, (id) => this.#checkId(id));
    if (list.length === 0) return '';
    return this.#tokenizer.decode(list, {
      skip_special_tokens: skipSpecialTokens,
      clean_up_tokenization_spaces: false,
    });
  }

  /** Decodes as `decode` does, but id by id, in whole characters: for text that appears while it is generated. */
  streamDecoder(options: DecodeOptions = {}): StreamDecoder {
    return new StreamDecoder(this, options);
  }

  /** The id of `token` as the vocabulary spells it, or undefined. */
  tokenToId(token: string): number | undefined {
    return this.#tokenizer.token_to_id(token);
  }

  /** How the vocabulary spells `id`, or undefined. */
  idToToken(id: number): string | undefined {
    return this.#tokenizer.id_to_token(id);
  }

  #checkId(id: number): number {
    if (this.idToToken(id) !== undefined) return id;
    throw new ConfigError(`decode: id is ${id}; it may be one of the vocabulary, which ends at ${this.vocabSize - 1}`);
  }

  #specialTokenId(name: string, token: SpecialToken | undefined): number | undefined {
    if (token === undefined || token === null) return undefined;
    const content = typeof token === 'string' ? token : token.content;
    const id = this.tokenToId(content);
    if (id !== undefined) return id;
    const added = [...this.#tokenizer.get_added_tokens_decoder().values()].map((known) => known.content);
    throw new FormatError(
      `tokenizer_config.json: ${name} is ${JSON.stringify(content)}, which tokenizer.json has not; closest: ${closestNames(content, added).join(', ') || 'none'}`,
    );
  }
}

const EMPTY = {
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: null,
};
