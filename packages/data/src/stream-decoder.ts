/**
 * Decodes tokens as they come. All that `push` and `end` return, joined, is the text of all the tokens; no character is
 * given out before all its bytes are there.
 */
export class StreamDecoder {
  readonly #decode: (ids: readonly number[]) => string;
  /** The tokens last given out, as context (decoders treat the first token of a text unlike others), and those held. */
  #ids: number[] = [];
  /** How many characters of their text have been given out. */
  #given = 0;
  /** Where the held tokens begin. */
  #held = 0;

  constructor(decode: (ids: readonly number[]) => string) {
    this.#decode = decode;
  }

  /** The text that is certain once the token `id` has come; often ''. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#decode(this.#ids);
    // A character that lacks bytes decodes to U+FFFD at the end, one or several.
    let certain = text.length;
    while (certain > this.#given && text[certain - 1] === '\uFFFD') certain--;
    if (certain <= this.#given) return '';
    const piece = text.slice(this.#given, certain);
    this.#given = certain;
    if (certain === text.length) {
      this.#ids = this.#ids.slice(this.#held);
      this.#given = this.#decode(this.#ids).length;
      this.#held = this.#ids.length;
    }
    return piece;
  }

  /** What was held back, with U+FFFD for characters that never became whole; the decoder is then as new. */
  end(): string {
    const rest = this.#decode(this.#ids).slice(this.#given);
    this.#ids = [];
    this.#given = 0;
    this.#held = 0;
    return rest;
  }
}
