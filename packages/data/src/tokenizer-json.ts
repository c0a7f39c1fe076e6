import { FormatError } from '@ashlar/tensor';

/** A token that stands outside the model's vocabulary, as `tokenizer.json` lists it. */
export interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
  [option: string]: unknown;
}

/** The contents of a `tokenizer.json`, of any type of model. */
export interface TokenizerJson {
  added_tokens?: AddedToken[];
  model: { type?: string; vocab: Record<string, number> | [string, number][]; [option: string]: unknown };
  [part: string]: unknown;
}

/** The contents of a `tokenizer_config.json`, as far as they are read here. */
export interface TokenizerConfig {
  bos_token?: SpecialToken;
  eos_token?: SpecialToken;
  pad_token?: SpecialToken;
  [option: string]: unknown;
}

/** A special token by its content, or as an object with it; null where there is none. */
export type SpecialToken = string | { content: string } | null;

/** Far beyond any real vocabulary. */
const MAX_ID = 2 ** 31 - 1;

/**
 * Checks all of a `tokenizer.json` that its loader takes for granted.
 * @param source The file, as errors name it.
 * @throws FormatError naming the first part that is wrong.
 */
export function checkTokenizerJson(json: unknown, source: string): TokenizerJson {
  const fail = (part: string, expected: string): never => {
    throw new FormatError(`${source}: ${part} should be ${expected}; is this the tokenizer.json of a fast tokenizer?`);
  };
  if (!isObject(json)) return fail('the whole', 'an object');
  const { model, added_tokens: added = [] } = json;
  if (!isObject(model)) return fail('model', 'an object');
  if (Array.isArray(model.vocab)) {
    const wrong = model.vocab.findIndex((entry) => !Array.isArray(entry) || typeof entry[0] !== 'string');
    if (wrong !== -1) fail(`model.vocab[${wrong}]`, 'a token and its score');
  } else if (isObject(model.vocab)) {
    for (const [token, id] of Object.entries(model.vocab)) {
      if (!isId(id)) fail(`model.vocab[${JSON.stringify(token)}]`, 'a whole number >= 0');
    }
  } else fail('model.vocab', 'an object of ids, or an array');
  if (model.type === 'BPE') {
    if (!Array.isArray(model.merges)) return fail('model.merges', 'an array');
    const wrong = model.merges.findIndex((merge) => !isMerge(merge));
    if (wrong !== -1) fail(`model.merges[${wrong}]`, 'two tokens');
  }
  if (!Array.isArray(added)) return fail('added_tokens', 'an array');
  const wrong = added.findIndex((token) => !isObject(token) || !isId(token.id) || typeof token.content !== 'string');
  if (wrong !== -1) fail(`added_tokens[${wrong}]`, 'an object with id and content');
  return json as TokenizerJson;
}

/** @throws FormatError where the special tokens are not what a `tokenizer_config.json` may hold. */
export function checkTokenizerConfig(config: unknown, source: string): TokenizerConfig {
  if (!isObject(config)) throw new FormatError(`${source}: the whole should be an object`);
  for (const name of ['bos_token', 'eos_token', 'pad_token']) {
    const token = config[name] ?? null;
    if (token !== null && typeof token !== 'string' && !(isObject(token) && typeof token.content === 'string')) {
      throw new FormatError(`${source}: ${name} should be a string, an object with content, or null`);
    }
  }
  return config;
}

/** Whether `value` is an object that is no array. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isId(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_ID;
}

function isMerge(merge: unknown): boolean {
  if (typeof merge === 'string') return merge.includes(' ');
  return Array.isArray(merge) && merge.length === 2 && merge.every((token) => typeof token === 'string');
}
