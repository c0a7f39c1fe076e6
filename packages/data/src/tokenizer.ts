import { FormatError } from '@ashlar/tensor';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';

/** Turns text into token ids and back: Hugging Face's `tokenizer.json`, whichever algorithm it names. */
export class Tokenizer {
  readonly #tokenizer: HuggingFaceTokenizer;
  readonly #config: Readonly<Record<string, unknown>>;
  readonly #chunked: boolean;
  readonly vocabSize: number;

  /**
   * @param json the object of a `tokenizer.json`. @param config the object of a `tokenizer_config.json`.
   * @throws FormatError if they describe no tokenizer.
   */
  constructor(json: object, config: Readonly<Record<string, unknown>> = {}) {
    try {
      this.#tokenizer = new HuggingFaceTokenizer(json, config);
      this.vocabSize = 1 + Math.max(...this.#tokenizer.get_vocab().values());
    } catch (error) {
      throw new FormatError(`The tokenizer.json describes no tokenizer: ${(error as Error).message}`, { cause: error });
    }
    if (!(this.vocabSize > 0)) throw new FormatError('The tokenizer.json has an empty vocabulary.');
    this.#config = config;
    const { normalizer, pre_tokenizer: split } = json as {
      normalizer?: unknown;
      pre_tokenizer?: Record<string, unknown>;
    };
    this.#chunked = !normalizer && split?.type === 'ByteLevel' && split.use_regex !== false && !split.add_prefix_space;
  }

  /** Token ids of `text`, no special ones added. Lone surrogates count as U+FFFD. */
  encode(text: string): Int32Array {
    const options = { add_special_tokens: false };
    if (!this.#chunked || text.length <= CHUNK) return Int32Array.from(this.#tokenizer.encode(text, options).ids);
    const parts = [...chunks(text)].map((chunk) => this.#tokenizer.encode(chunk, options).ids);
    return Int32Array.from(parts.flat());
  }

  /** The text of `ids`. @param options.skipSpecialTokens default true. */
  decode(ids: ArrayLike<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    const { skipSpecialTokens = true } = options;
    if (ids.length === 0) return '';
    return this.#tokenizer.decode(Array.from(ids), {
      skip_special_tokens: skipSpecialTokens,
      clean_up_tokenization_spaces: false,
    });
  }

  tokenToId(token: string): number | undefined {
    return this.#tokenizer.token_to_id(token);
  }

  idToToken(id: number): string | undefined {
    return this.#tokenizer.id_to_token(id);
  }

  /** The token that ends a text; undefined if the config names none. */
  get eosTokenId(): number | undefined {
    return this.#special('eos_token');
  }

  get bosTokenId(): number | undefined {
    return this.#special('bos_token');
  }

  get padTokenId(): number | undefined {
    return this.#special('pad_token');
  }

  #special(name: string): number | undefined {
    const value = this.#config[name];
    const content = typeof value === 'object' && value !== null ? (value as { content?: unknown }).content : value;
    return typeof content === 'string' ? this.tokenToId(content) : undefined;
  }

  /** Decodes tokens one by one, giving out text only once its characters are complete. */
  streamDecoder(): { push(id: number): string; end(): string } {
    let pending: number[] = [];
    let given = '';
    const advance = (text: string): string => {
      const fresh = text.slice(given.length);
      given = text;
      return fresh;
    };
    return {
      push: (id) => {
        pending.push(id);
        const text = this.decode(pending);
        if (text.endsWith('\ufffd')) return '';
        const fresh = advance(text);
        // What came before a line's end never changes how the rest decodes; forget it, so that each step stays short.
        if (text.endsWith('\n')) {
          pending = [];
          given = '';
        }
        return fresh;
      },
      end: () => advance(this.decode(pending)),
    };
  }
}

/** Long texts are encoded in pieces of about this many characters: the library slows down on long ones. */
const CHUNK = 8192;

/** Cuts between a character and white space after it, where GPT-2's split into words always has a border. */
function* chunks(text: string): Generator<string> {
  const border = /\S(?=\s)/gu;
  let start = 0;
  while (text.length - start > CHUNK) {
    border.lastIndex = start + CHUNK;
    const found = border.exec(text);
    const end = found === null ? text.length : found.index + found[0].length;
    yield text.slice(start, end);
    start = end;
  }
  if (start < text.length) yield text.slice(start);
}

/** Loads `tokenizer.json`, and `tokenizer_config.json` where there is one, from a folder. @throws FormatError naming the file. */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const { join } = await import('node:path');
  const { existsSync } = await import('node:fs');
  const path = join(folder, 'tokenizer.json');
  const configPath = join(folder, 'tokenizer_config.json');
  const config = existsSync(configPath) ? await readJson(configPath) : {};
  try {
    return new Tokenizer(await readJson(path), config);
  } catch (error) {
    if (error instanceof FormatError && !error.message.startsWith(path)) error.message = `${path}: ${error.message}`;
    throw error;
  }
}

async function readJson(path: string): Promise<Record<string, unknown>> {
  const { readFile } = await import('node:fs/promises');
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new FormatError(`${path} cannot be read as JSON: ${(error as Error).message}`, { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new FormatError(`${path} holds no object.`);
  return value as Record<string, unknown>;
}
