import { closestNames, FormatError, nodeModule } from '@ashlar/tensor';

/** The path that a `file:` URL names; any other string is a path already. */
export function toPath(path: string | URL): string {
  return typeof path === 'string' && !path.startsWith('file:')
    ? path
    : nodeModule('node:url', String(path)).fileURLToPath(path);
}

/** What is at `path`. Throws FormatError that suggests the closest names where there is nothing. */
export async function statPath(path: string): Promise<import('node:fs').Stats> {
  try {
    return await nodeModule('node:fs/promises', path).stat(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw unreadable(path, error);
    throw new FormatError(`${path}: no such file or folder.${await suggestion(path)}`, { cause: error });
  }
}

/** The bytes of a file. Throws FormatError where it cannot be read. */
export async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return await nodeModule('node:fs/promises', path).readFile(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

export function unreadable(path: string, error: unknown): FormatError {
  const reason = error instanceof Error ? error.message : String(error);
  return new FormatError(`${path}: cannot be read (${reason}). Check the path and its permissions.`, { cause: error });
}

/** Names the first missing part of the path and what there is instead. */
async function suggestion(path: string): Promise<string> {
  const { dirname, basename, resolve } = nodeModule('node:path', path);
  const parent = dirname(resolve(path));
  const names = await nodeModule('node:fs/promises', path)
    .readdir(parent)
    .catch(() => undefined);
  if (names === undefined) return ` Nor is there a folder ${dirname(path)}.`;
  const close = closestNames(basename(path), names);
  return close.length > 0 ? ` Closest names: ${close.join(', ')}.` : ` The folder ${dirname(path)} is empty.`;
}
