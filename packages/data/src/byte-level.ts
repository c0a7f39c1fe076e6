/**
 * How GPT-2 cuts text into pre-tokens: contractions, words, numbers and runs of other characters, each with the one
 * space before it, and white space. Every character is in exactly one of them.
 *
 * Source: Radford, Wu, Child, Luan, Amodei and Sutskever, "Language models are unsupervised multitask learners" (2019).
 */
export const PRE_TOKEN: RegExp = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/**
 * The character that stands for each byte in byte-level vocabularies: itself where it prints, else one of U+0100 and
 * up, in order. So no token holds a space or a control character.
 */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const prints = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(prints(byte) ? byte : next++));
})();

const encoder = new TextEncoder();

/** The UTF-8 bytes of `text`, each as its character. */
export function toByteChars(text: string): string {
  return Array.from(encoder.encode(text), (byte) => BYTE_CHARACTERS[byte]).join('');
}
