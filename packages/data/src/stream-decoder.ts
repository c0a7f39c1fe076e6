/**
 * Decodes tokens as they come. All that `push` and `end` return, joined, is the text of all the tokens; no character is
 * given out before all its bytes are there.
 */
export class StreamDecoder {
  readonly #decode: (ids: readonly number[]) => string;
  /** The tokens of the last piece, as context (decoders treat the first token of a text unlike others), and later ones. */
  #ids: number[] = [];
  /** How many characters of their text have been given out. */
  #given = 0;
  /** Where the later ones begin. */
  #held = 0;

  constructor(decode: (ids: readonly number[]) => string) {
    this.#decode = decode;
  }

  /** The text that is certain once the token `id` has come; often ''. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#decode(this.#ids);
    // A character that lacks bytes decodes to one U+FFFD at the end. Once more text follows it, it stays.
    const open = text.endsWith('\uFFFD') ? 1 : 0;
    const certain = text.length - open;
    if (certain <= this.#given) return '';
    const piece = text.slice(this.#given, certain);
    // What is open began with this token; so what was given out before can go, and no push costs more than another.
    this.#ids = this.#ids.slice(this.#held);
    this.#held = this.#ids.length;
    this.#given = this.#decode(this.#ids).length - open;
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
