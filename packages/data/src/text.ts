import { FormatError, nodeModule } from '@ashlar/tensor';
import { readBytes, statPath, toPath, unreadable } from './open-path.ts';

/** A text with a name. */
export interface TextDocument {
  readonly name: string;
  readonly text: string;
}

/** What is read of a folder. */
const TEXT_FILE = /\.(txt|md)$/i;
/** V8's longest string holds this many characters. */
const LARGEST = 2 ** 29 - 24;

/**
 * The documents at `path`: one file of any name, or all `*.txt` and `*.md` files of a folder and the folders in it, in
 * the natural order of their paths (`2.txt` before `10.txt`). A byte order mark is left out; nothing else is changed, line
 * ends neither. Links to files are followed, links to folders are not. Node only.
 * @returns documents named by their path within the folder, with `/` on every system; a single file by its own name.
 * @throws FormatError that names the path: nothing there (with the closest names), a folder without text, a file that is
 *   empty, binary or not UTF-8 (with the offset of the first such byte), or too large for a string.
 */
export async function readText(path: string | URL): Promise<TextDocument[]> {
  const documents: TextDocument[] = [];
  for await (const document of streamText(path)) documents.push(document);
  return documents;
}

/** The documents of `readText`, each read when it is asked for. */
export async function* streamText(path: string | URL): AsyncGenerator<TextDocument, void, undefined> {
  const root = toPath(path);
  const { basename, join } = nodeModule('node:path', root);
  if (!(await statPath(root)).isDirectory()) {
    yield { name: basename(root), text: await readTextFile(root) };
    return;
  }
  const names = await textFiles(root);
  if (names.length === 0) {
    throw new FormatError(`${root}: no *.txt or *.md file in this folder or the folders in it. Choose another one.`);
  }
  for (const name of names) yield { name, text: await readTextFile(join(root, name)) };
}

async function textFiles(root: string): Promise<string[]> {
  const { join, relative, sep } = nodeModule('node:path', root);
  const entries = await nodeModule('node:fs/promises', root)
    .readdir(root, { recursive: true, withFileTypes: true })
    .catch((error: unknown) => {
      throw unreadable(root, error);
    });
  const names: string[] = [];
  for (const entry of entries) {
    if (!TEXT_FILE.test(entry.name)) continue;
    const file = join(entry.parentPath, entry.name);
    if (entry.isFile() || (entry.isSymbolicLink() && (await statPath(file)).isFile())) {
      names.push(relative(root, file).replaceAll(sep, '/'));
    }
  }
  const natural = new Intl.Collator('en', { numeric: true });
  return names.sort((a, b) => natural.compare(a, b) || (a < b ? -1 : 1));
}

async function readTextFile(file: string): Promise<string> {
  const stats = await statPath(file);
  if (!stats.isFile()) throw new FormatError(`${file}: it is neither a file nor a folder. Choose a text file.`);
  if (stats.size > LARGEST) {
    throw new FormatError(
      `${file}: ${stats.size} bytes are more than one string can hold (${LARGEST}). Split it into files in a folder.`,
    );
  }
  const text = decodeUtf8(await readBytes(file), file);
  if (text.trim() === '') throw new FormatError(`${file}: there is no text in it. Remove it or choose another one.`);
  return text;
}

function decodeUtf8(bytes: Uint8Array, file: string): string {
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) {
    throw new FormatError(`${file}: it is UTF-16, by the byte order mark at byte 0. Save it as UTF-8.`);
  }
  const nul = bytes.indexOf(0);
  if (nul >= 0) throw new FormatError(`${file}: a NUL at byte ${nul} says that it is binary. Choose a text file.`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new FormatError(`${file}: byte ${firstInvalidByte(bytes)} is not UTF-8. Save it as UTF-8.`, { cause: error });
  }
}

/** Where the first sequence that is not UTF-8 begins. */
function firstInvalidByte(bytes: Uint8Array): number {
  // The longest beginning that is UTF-8, but for its last character, which may be unfinished.
  let low = 0;
  let high = bytes.length;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (decodeBeginning(bytes.subarray(0, middle)) === undefined) high = middle - 1;
    else low = middle;
  }
  return new TextEncoder().encode(decodeBeginning(bytes.subarray(0, low))).length;
}

function decodeBeginning(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: true });
  } catch {
    return undefined;
  }
}
