import { AshlarError } from './errors.ts';
import { nodeModule } from './node-module.ts';

/** What a file can be written from: one piece, or pieces made while the file is being written. */
export type FileChunks = string | Uint8Array | Iterable<string | Uint8Array> | AsyncIterable<string | Uint8Array>;

/**
 * Writes a file whole or not at all: into a temporary file in the same folder, flushed to the disk, then renamed to
 * `path`. Whatever stops it, a file that was at `path` stays as it was and the temporary file is removed. A symbolic
 * link at `path` keeps pointing where it did. Node only.
 * @param chunks strings are written as UTF-8.
 * @throws AshlarError naming the path and the remedy when the disk is full, the folder is missing or not writable …;
 *   ConfigError outside Node; whatever `chunks` throws.
 */
export async function writeFileAtomic(path: string, chunks: FileChunks): Promise<void> {
  const fs = nodeModule('node:fs/promises', path);
  const { dirname, basename, join } = nodeModule('node:path', path);
  const target = await fs.realpath(path).catch(() => path);
  const existing = await fs.stat(target).catch(() => undefined);
  if (existing !== undefined && !existing.isFile()) {
    throw new AshlarError(`${path}: cannot be written: it exists and is not a file. Choose another path.`);
  }
  const folder = dirname(target);
  const temporary = join(folder, `.${basename(target).slice(0, 50)}.${crypto.randomUUID()}.tmp`);
  try {
    const file = await fs.open(temporary, 'wx', existing === undefined ? 0o666 : existing.mode & 0o777);
    try {
      await fs.writeFile(file, chunks);
      await file.sync();
    } finally {
      await file.close();
    }
    await fs.rename(temporary, target);
  } catch (error) {
    await fs.rm(temporary, { force: true }).catch(() => {});
    throw describeWriteError(path, error);
  }
  await syncFolder(fs, folder);
}

/** Makes the rename itself survive a power cut; some systems cannot open or flush a folder, and need not. */
async function syncFolder(fs: typeof import('node:fs/promises'), folder: string): Promise<void> {
  const handle = await fs.open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => {});
  await handle?.close();
}

const REMEDIES: Record<string, string> = {
  ENOSPC: 'the disk is full. Free some space or choose another disk',
  EDQUOT: 'the disk quota is used up. Free some space or choose another disk',
  EFBIG: 'the file is larger than this disk or process may hold. Choose another disk or raise the limit',
  EROFS: 'the disk is read-only. Choose another folder',
  EACCES: 'the folder is not writable. Change its permissions or choose another folder',
  EPERM: 'the folder is not writable. Change its permissions or choose another folder',
  ENOENT: 'the folder does not exist. Create it first',
  ENOTDIR: 'a part of the path is a file, not a folder. Choose another path',
  ENAMETOOLONG: 'the name is too long. Choose a shorter one',
  EEXIST: 'there is a file of that name. Choose another',
  EMFILE: 'too many files are open. Close some or raise the limit',
};

/** Errors of the file system become one that says what to do; others (what the chunks threw) stay themselves. */
export function describeWriteError(path: string, error: unknown): unknown {
  if (!(error instanceof Error && 'code' in error && 'syscall' in error)) return error;
  const remedy = REMEDIES[String(error.code)] ?? error.message;
  return new AshlarError(`${path}: cannot be written: ${remedy}. Any earlier file there is unchanged.`, {
    cause: error,
  });
}
