import { ConfigError, closestNames, FormatError, type Rng } from '@ashlar/tensor';

/** A text with a name. */
export interface TextDocument {
  readonly name: string;
  readonly text: string;
}

/**
 * Reads a text file, or all `.txt` and `.md` files below a folder in the order of their names.
 * @throws FormatError for what is missing (naming what comes close), empty, or no UTF-8 text (naming the byte).
 */
export async function readText(path: string): Promise<TextDocument[]> {
  const { readdir, stat } = await import('node:fs/promises');
  const { basename, dirname, join } = await import('node:path');
  const info = await stat(path).catch(() => undefined);
  if (info === undefined) {
    const names = await readdir(dirname(path)).catch(() => []);
    const close = closestNames(basename(path), names).join(', ');
    throw new FormatError(`There is no text file or folder ${path}.${close === '' ? '' : ` Closest names: ${close}.`}`);
  }
  if (!info.isDirectory()) return [{ name: basename(path), text: await readFile(path) }];
  const entries = await readdir(path, { recursive: true });
  const names = entries.filter((name) => /\.(txt|md)$/i.test(name)).sort();
  if (names.length === 0) throw new FormatError(`The folder ${path} has no .txt or .md file.`);
  return Promise.all(names.map(async (name) => ({ name, text: await readFile(join(path, name)) })));
}

async function readFile(path: string): Promise<string> {
  const fs = await import('node:fs/promises');
  const bytes = await fs.readFile(path);
  if (bytes.length === 0) throw new FormatError(`${path} is empty.`);
  const nul = bytes.indexOf(0);
  if (nul >= 0) throw new FormatError(`${path} is no text: it has a NUL byte at offset ${nul}.`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new FormatError(`${path} is no UTF-8 text: its bytes are invalid at offset ${invalidOffset(bytes)}.`);
  }
}

/** Where the longest valid UTF-8 beginning of `bytes` ends. */
function invalidOffset(bytes: Uint8Array): number {
  let [low, high] = [0, bytes.length];
  const valid = (end: number): boolean => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, end), { stream: true });
      return true;
    } catch {
      return false;
    }
  };
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (valid(middle)) low = middle;
    else high = middle;
  }
  return low;
}

export interface SplitOptions {
  /** Which documents are held out. Default `'last'`. */
  heldOut?: 'last' | 'random';
  /** How many documents; or else `fraction`. */
  count?: number;
  /** Share of the documents, rounded, at least one. Default 0.1. */
  fraction?: number;
  /** Needed for `'random'`. */
  rng?: Rng;
}

/**
 * Splits texts into those to learn and those to measure on, by document. A single document is cut in two at the line or
 * word border nearest to `fraction` from its end.
 * @throws ConfigError if nothing would be left to learn.
 */
export function splitDocuments<D extends TextDocument>(
  documents: readonly D[],
  options: SplitOptions = {},
): { train: TextDocument[]; heldOut: TextDocument[] } {
  const {
    heldOut = 'last',
    fraction = 0.1,
    count = Math.max(1, Math.round(documents.length * fraction)),
    rng,
  } = options;
  if (!(fraction > 0 && fraction < 1)) throw new ConfigError(`fraction is ${fraction}; it must be between 0 and 1.`);
  if (documents.length === 1 && options.count === undefined) return cut(documents[0], fraction);
  if (!Number.isInteger(count) || count < 1 || count >= documents.length) {
    throw new ConfigError(
      `count is ${count}; it must be an integer from 1 to ${documents.length - 1}, one less than the documents.`,
    );
  }
  if (heldOut === 'last') return { train: documents.slice(0, -count), heldOut: documents.slice(-count) };
  if (rng === undefined) throw new ConfigError("rng is missing; heldOut 'random' needs one.");
  const chosen = new Set(rng.choice(documents.length, count, { replace: false }));
  return {
    train: documents.filter((_, i) => !chosen.has(i)),
    heldOut: documents.filter((_, i) => chosen.has(i)),
  };
}

function cut({ name, text }: TextDocument, fraction: number): { train: TextDocument[]; heldOut: TextDocument[] } {
  const target = Math.round(text.length * (1 - fraction));
  const line = text.indexOf('\n', target);
  const word = text.slice(target).search(/\s/);
  const far = text.length * fraction * 0.5;
  const end = line >= 0 && line - target < far ? line + 1 : word >= 0 ? target + word : target;
  return {
    train: [{ name: `${name} (beginning)`, text: text.slice(0, end) }],
    heldOut: [{ name: `${name} (end)`, text: text.slice(end) }],
  };
}
