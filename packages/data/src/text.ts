import { FormatError } from '@ashlar/tensor';
import { nodeModule } from './node-module.ts';
import { readBytes, statPath, toPath } from './open-path.ts';

/** A text with the name it is known by. */
export interface TextDocument {
  readonly name: string;
  readonly text: string;
}

const TEXT_FILE = /\.(txt|md)$/i;

/** The longest string that V8 makes. */
const MAX_BYTES = 2 ** 29 - 24;

/**
 * Reads text in UTF-8. Node only.
 * @param source A file of any name, or a folder, of which all `*.txt` and `*.md` files are read, those of its
 *   subfolders included, sorted by name.
 * @returns One document per file, named by its path within the folder, or by the file's own name. A byte order mark is
 *   left out; all else stays as it is.
 * @throws FormatError where the path is missing, a file is empty or not text, or a folder has no text.
 */
export async function readText(source: string | URL): Promise<TextDocument[]> {
  const path = toPath(source);
  const { basename, join, relative, sep } = nodeModule('node:path', path);
  if (!(await statPath(path)).isDirectory()) return [{ name: basename(path), text: await readFile(path) }];
  const entries = await nodeModule('node:fs/promises', path).readdir(path, { recursive: true, withFileTypes: true });
  const names = entries
    .filter((entry) => entry.isFile() && TEXT_FILE.test(entry.name))
    .map((entry) => relative(path, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort();
  if (names.length === 0) {
    throw new FormatError(`${path}: has no *.txt or *.md files; put some there, or give the path of one file.`);
  }
  const documents: TextDocument[] = [];
  for (const name of names) documents.push({ name, text: await readFile(join(path, name)) });
  return documents;
}

async function readFile(path: string): Promise<string> {
  const { size } = await statPath(path);
  if (size > MAX_BYTES) throw new FormatError(`${path}: has ${size} bytes; split it into files below 512 MiB.`);
  const bytes = await readBytes(path);
  if (bytes.length === 0) throw new FormatError(`${path}: is empty; give it some text or take it away.`);
  const zero = bytes.indexOf(0);
  if (zero !== -1) throw new FormatError(`${path}: byte ${zero} is 0, so it is not text; convert it to UTF-8.`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(`${path}: byte ${firstInvalid(bytes)} is not UTF-8; convert the file to UTF-8.`, { cause });
  }
}

/** The first byte that can no longer continue UTF-8; the length where only the end of the last character is missing. */
function firstInvalid(bytes: Uint8Array): number {
  let valid = 0;
  let invalid = bytes.length + 1;
  while (invalid - valid > 1) {
    const middle = (valid + invalid) >>> 1;
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, middle), { stream: true });
      valid = middle;
    } catch {
      invalid = middle;
    }
  }
  return valid;
}
