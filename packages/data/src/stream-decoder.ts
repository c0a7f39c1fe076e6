import type { DecodeOptions, Tokenizer } from './tokenizer.ts';

/**
 * Decodes tokens as they come. All that `push` and `end` return, joined, is `decode` of all the tokens; no character is
 * given out before all its bytes are there.
 */
export class StreamDecoder {
  readonly #tokenizer: Pick<Tokenizer, 'decode'>;
  readonly #options: DecodeOptions;
  /** The last tokens given out, as context (decoders treat the first token of a text unlike others), and those held. */
  #ids: number[] = [];
  /** How many characters of their text have been given out. */
  #given = 0;
  /** Where the held tokens begin. */
  #held = 0;

  constructor(tokenizer: Pick<Tokenizer, 'decode'>, options: DecodeOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  /** The text that is certain once the token `id` has come; often ''. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#text();
    // An unfinished character decodes to U+FFFD at the end, and only there.
    let certain = text.length;
    while (certain > this.#given && text[certain - 1] === '\uFFFD') certain--;
    if (certain <= this.#given) return '';
    const piece = text.slice(this.#given, certain);
    this.#given = certain;
    if (certain === text.length) {
      this.#ids = this.#ids.slice(this.#held);
      this.#given = this.#text().length;
      this.#held = this.#ids.length;
    }
    return piece;
  }

  /** What was held back, with U+FFFD for characters that never became whole; the decoder is then as new. */
  end(): string {
    const rest = this.#text().slice(this.#given);
    this.#ids = [];
    this.#given = 0;
    this.#held = 0;
    return rest;
  }

  #text(): string {
    return this.#tokenizer.decode(this.#ids, this.#options);
  }
}
