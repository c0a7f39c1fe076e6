import { readText, splitDocuments } from '@ashlar/data';
import { loadAdapter } from '@ashlar/peft';
import { InvalidArgumentError } from 'commander';
import { type Document, kingJames, mobyDick, stateOfTheUnion } from '../corpora.ts';
import { type LanguageModel, loadLanguageModel } from '../language-model.ts';

/** Parses a number that must be a positive integer. */
export function positiveInteger(value: string): number {
  const n = Number(value);
  if (!Number.isInteger(n) || n < 1) throw new InvalidArgumentError('It must be a positive integer.');
  return n;
}

/** Parses an integer of at least 0. */
export function wholeNumber(value: string): number {
  const n = Number(value);
  if (value.trim() === '' || !Number.isSafeInteger(n) || n < 0)
    throw new InvalidArgumentError('It must be an integer of at least 0.');
  return n;
}

/** Parses an integer within bounds, both included. */
export function integerFrom(low: number, high: number): (value: string) => number {
  return (value) => {
    const n = Number(value);
    if (value.trim() !== '' && Number.isInteger(n) && n >= low && n <= high) return n;
    throw new InvalidArgumentError(`It must be an integer from ${low} to ${high}.`);
  };
}

/** Parses the path of a folder. */
export function folderName(value: string): string {
  if (value === '') throw new InvalidArgumentError('It must name a folder.');
  return value;
}

/** Parses a number of at least 0. */
export function nonNegative(value: string): number {
  const n = Number(value);
  if (value.trim() === '' || !(n >= 0 && Number.isFinite(n)))
    throw new InvalidArgumentError('It must be a number of at least 0.');
  return n;
}

/** A bundled corpus by its name, or the text at a path. */
export function documents(text: string): Promise<Document[]> {
  if (text === 'sotu') return stateOfTheUnion();
  if (text === 'moby-dick') return mobyDick();
  if (text === 'king-james') return kingJames();
  return readText(text);
}

/** The texts to learn and to measure on: the last `count` documents are held out, or the last tenth. */
export async function splitTexts(text: string, count?: number): Promise<{ train: Document[]; heldOut: Document[] }> {
  return splitDocuments(await documents(text), { count });
}

/** A model, with an adapter attached where one is named. */
export async function openModel(options: { model: string; adapter?: string }): Promise<LanguageModel> {
  const language = await loadLanguageModel(options.model);
  if (options.adapter !== undefined) await loadAdapter(language.model, options.adapter);
  language.model.eval();
  return language;
}
