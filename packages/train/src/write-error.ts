import { AshlarError } from '@ashlar/tensor';

const REMEDIES: Record<string, string> = {
  ENOSPC: 'the disk is full. Free some space',
  EDQUOT: 'the disk quota is used up. Free some space',
  EFBIG: 'it is larger than this disk or process may hold. Raise the limit',
  EROFS: 'the disk is read-only. Choose another folder',
  EACCES: 'the folder is not writable. Change its permissions or choose another folder',
  EPERM: 'the folder is not writable. Change its permissions or choose another folder',
  ENOENT: 'the folder does not exist. Create it first',
  ENOTDIR: 'a part of the path is a file. Choose another folder',
  EEXIST: 'there is a file of that name. Choose another folder',
};

/** What the file system says, with a remedy; errors that are no file system's stay themselves. */
export function writeError(path: string, what: string, error: unknown): unknown {
  const code = codeOf(error);
  if (error instanceof AshlarError || code === undefined) return error;
  const why = REMEDIES[code] ?? `${code}. Choose another place`;
  return new AshlarError(`${path}: ${what} cannot be written: ${why}. What was written before is kept.`, {
    cause: error,
  });
}

/** `ENOENT` and the like. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
