import { FormatError, quote } from '@ashlar/tensor';

/** A token that is found in the text before anything is split. */
export interface AddedToken {
  id: number;
  content: string;
  single_word?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  normalized?: boolean;
  /** Whether `skipSpecialTokens` leaves it out. */
  special?: boolean;
}

/** The content of a `tokenizer.json` as Python's `tokenizers` writes it. */
export interface TokenizerJson {
  version?: string;
  truncation?: object | null;
  padding?: object | null;
  added_tokens?: AddedToken[];
  normalizer?: object | null;
  pre_tokenizer?: object | null;
  post_processor?: object | null;
  decoder?: object | null;
  model: object;
}

/** The `tokenizer.json` of a byte-level BPE, as `trainBpe` makes it. */
export interface BpeTokenizerJson extends TokenizerJson {
  added_tokens: AddedToken[];
  model: { readonly type: 'BPE'; readonly vocab: Record<string, number>; readonly merges: [string, string][] };
}

/** What is read of a `tokenizer_config.json`; other fields reach `@huggingface/tokenizers` as they are. */
export interface TokenizerConfig {
  bos_token?: string | { content: string } | null;
  eos_token?: string | { content: string } | null;
  pad_token?: string | { content: string } | null;
  [field: string]: unknown;
}

/**
 * Checks what the library takes for granted, so that a broken file gets an error that names the place.
 * @param name the file's name, for errors.
 */
export function checkTokenizerJson(json: unknown, name: string): TokenizerJson {
  const remedy = 'Is it a tokenizer.json of Hugging Face tokenizers?';
  if (!isObject(json)) throw new FormatError(`${name}: it is ${describe(json)}, not a JSON object. ${remedy}`);
  const { model, added_tokens: added = [] } = json;
  if (!isObject(model)) throw new FormatError(`${name}: model is ${describe(model)}, not an object. ${remedy}`);
  if (!Array.isArray(added)) throw new FormatError(`${name}: added_tokens is ${describe(added)}, not a list.`);
  added.forEach((token: unknown, i) => {
    if (!isObject(token) || typeof token.content !== 'string' || token.content === '') {
      throw new FormatError(`${name}: added_tokens[${i}] has no content; it may be a non-empty string.`);
    }
    checkId(token.id, `added_tokens[${i}].id`, name);
  });
  if (isObject(model.vocab)) {
    for (const [token, id] of Object.entries(model.vocab)) checkId(id, `model.vocab[${quote(token)}]`, name);
  } else if (!Array.isArray(model.vocab)) {
    throw new FormatError(`${name}: model.vocab is ${describe(model.vocab)}, not an object or a list. ${remedy}`);
  }
  if (model.type === 'BPE' || 'merges' in model) checkMerges(model, name);
  return json as unknown as TokenizerJson;
}

/** Checks that the special tokens have names. */
export function checkTokenizerConfig(config: unknown, name: string): TokenizerConfig {
  if (!isObject(config)) throw new FormatError(`${name}: it is ${describe(config)}, not a JSON object.`);
  for (const field of ['bos_token', 'eos_token', 'pad_token']) {
    const token = config[field] ?? '';
    if (typeof token !== 'string' && !(isObject(token) && typeof token.content === 'string')) {
      throw new FormatError(`${name}: ${field} is ${quote(token)}; it may be a string or an object with a content.`);
    }
  }
  return config;
}

/** Whether a value of JSON is an object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function checkMerges(model: Record<string, unknown>, name: string): void {
  const { merges, vocab, continuing_subword_prefix: prefix } = model;
  if (!Array.isArray(merges)) throw new FormatError(`${name}: model.merges is ${describe(merges)}, not a list.`);
  if (!isObject(vocab)) throw new FormatError(`${name}: model.vocab is a list; with merges it may be an object.`);
  merges.forEach((merge: unknown, i) => {
    const pair: unknown = typeof merge === 'string' ? merge.split(' ') : merge;
    if (!Array.isArray(pair) || pair.length !== 2 || pair.some((part) => typeof part !== 'string')) {
      throw new FormatError(`${name}: model.merges[${i}] is ${describe(merge)}; it may be two tokens.`);
    }
    const missing = [...pair, ...(prefix ? [] : [pair.join('')])].find((token) => !Object.hasOwn(vocab, token));
    if (missing !== undefined) {
      throw new FormatError(
        `${name}: model.merges[${i}] needs the token ${describe(missing)}, which model.vocab lacks.`,
      );
    }
  });
}

function checkId(id: unknown, where: string, name: string): void {
  if (Number.isInteger(id) && (id as number) >= 0 && (id as number) < 2 ** 31) return;
  throw new FormatError(`${name}: ${where} is ${describe(id)}; it may be a whole number in [0, 2^31).`);
}

const describe = (value: unknown): string => (value === undefined ? 'missing' : quote(value));
