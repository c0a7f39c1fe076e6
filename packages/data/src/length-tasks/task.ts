import type { Rng } from '@ashlar/tensor';
import type { ScratchpadStep } from './scratchpad.ts';

/** A task whose problems have a length: how to draw a problem, and how to write it down. */
export interface LengthTask<Instance> {
  readonly description: string;
  /** The shortest problem there is. */
  readonly minLength: number;
  /** The longest, where there is one. */
  readonly maxLength?: number;
  /** Whether there are problems of a length in between; absent where there are of all. */
  hasLength?(length: number): boolean;
  draw(length: number, rng: Rng, options: { readonly symbols?: number }): Instance;
  prompt(instance: Instance): string;
  /** What follows the prompt, or the scratchpad. */
  target(instance: Instance): string;
  /** The answer alone, as `extract` gives it. */
  answer(instance: Instance): string;
  /** The answer in the text that a model wrote after the prompt. */
  extract(text: string): string | undefined;
  /** The way to the answer; absent where there is no scratchpad. */
  steps?(instance: Instance): ScratchpadStep[];
}

/** Digits separated by blanks, `- 1 2` for -12. */
export function spell(number: number | bigint): string {
  return number < 0 ? `- ${spell(-number)}` : [...String(number)].join(' ');
}

/** `(a mod b)` in `[0, b)`. */
export const modulo = (a: number, b: number): number => ((a % b) + b) % b;

/** The whole number in the last `The answer is …`. */
export function extractNumber(text: string): string | undefined {
  const found = /^.*The answer is\s+(-?\s?\d[\d\s]*)\./s.exec(text)?.[1];
  return found?.replaceAll(/\s/g, '');
}

/** The word in the last `The answer is …`. */
export function extractWord(text: string): string | undefined {
  return /^.*The answer is\s*(\S+?)\s*\./s.exec(text)?.[1];
}
