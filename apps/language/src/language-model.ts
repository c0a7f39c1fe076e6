import { existsSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { loadTokenizer, type Tokenizer } from '@ashlar/data';
import {
  type CausalLM,
  type GenerateOptions,
  generate,
  type LoadOptions,
  loadModel,
  modelFolder,
  saveModel,
} from '@ashlar/models';
import type { FloatDtype } from '@ashlar/tensor';

/** The folder of the model that comes with the app (from `src` and from `dist` alike). */
export const BUNDLED_MODEL: string = join(
  dirname(createRequire(import.meta.url).resolve('@ashlar/language/package.json')),
  'assets',
  'tiny',
);

/** A model with the tokenizer that it was trained with. */
export interface LanguageModel {
  model: CausalLM;
  tokenizer: Tokenizer;
  /** Where both came from. */
  folder: string;
}

const TOKENIZER_FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
];

/** Loads a model and its tokenizer from a Hugging Face folder or by a hub id. @throws FormatError naming the file. */
export async function loadLanguageModel(folderOrId: string, options: LoadOptions = {}): Promise<LanguageModel> {
  const folder = await modelFolder(folderOrId, options);
  return { tokenizer: await loadTokenizer(folder), model: await loadModel(folder, options), folder };
}

/** Writes the model as it is now, with the tokenizer it came with, as a folder that transformers loads. */
export async function saveLanguageModel(
  { model, folder }: LanguageModel,
  out: string,
  options: { dtype?: FloatDtype } = {},
): Promise<void> {
  await saveModel(model, out, options);
  for (const name of TOKENIZER_FILES) {
    if (existsSync(join(folder, name))) await copyFile(join(folder, name), join(out, name));
  }
}

/** Continues `prompt` and gives the text out piece by piece, as it is drawn. */
export async function* generateText(
  { model, tokenizer }: Pick<LanguageModel, 'model' | 'tokenizer'>,
  prompt: string,
  options: GenerateOptions = {},
): AsyncGenerator<string, void, undefined> {
  const { eosTokenId } = tokenizer;
  const start = tokenizer.encode(prompt);
  // An empty prompt starts a text, as after the end of another.
  const ids = start.length === 0 && eosTokenId !== undefined ? [eosTokenId] : start;
  const stopTokens = options.stopTokens ?? (eosTokenId === undefined ? [] : [eosTokenId]);
  const decoder = tokenizer.streamDecoder();
  for await (const id of generate(model, ids, { ...options, stopTokens })) {
    const text = decoder.push(id);
    if (text !== '') yield text;
  }
  const rest = decoder.end();
  if (rest !== '') yield rest;
}

/** The whole continuation of `prompt`. */
export async function sampleText(
  model: Pick<LanguageModel, 'model' | 'tokenizer'>,
  prompt: string,
  options: GenerateOptions = {},
): Promise<string> {
  let text = '';
  for await (const piece of generateText(model, prompt, options)) text += piece;
  return text;
}
