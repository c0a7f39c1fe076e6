/**
 * GPT-2's split of a text into pre-tokens, which merges never cross: contractions, words, numbers and punctuation, each
 * with the one space before it, and runs of white space. `\p{White_Space}` is what `\s` means to the Rust library;
 * JavaScript's own `\s` takes U+FEFF for white space and U+0085 not.
 *
 * Source: Radford et al., "Language models are unsupervised multitask learners" (2019).
 */
export const PRE_TOKEN: RegExp =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/**
 * The character that stands for each byte in byte-level vocabularies: printable Latin-1 stands for itself, the other 68
 * bytes are U+0100 and up, in order (a space is 'Ġ', a line feed 'Ċ').
 */
export const BYTE_CHARS: readonly string[] = byteChars();

const encoder = new TextEncoder();

/** The UTF-8 bytes of `text`, one character of `BYTE_CHARS` each. Lone surrogates become U+FFFD. */
export function toByteChars(text: string): string {
  let chars = '';
  for (const byte of encoder.encode(text)) chars += BYTE_CHARS[byte];
  return chars;
}

function byteChars(): string[] {
  const printable = (byte: number): boolean => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}
