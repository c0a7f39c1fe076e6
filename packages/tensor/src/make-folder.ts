import { nodeModule } from './node-module.ts';
import { describeWriteError } from './write-file-atomic.ts';

/**
 * Makes a folder, and those above it that are missing. Node only.
 *
 * Not Node's own recursive `mkdir`, which takes a read-only disk for a missing folder and never returns below `/proc`.
 * @throws AshlarError naming the path and the remedy; ConfigError outside Node.
 */
export async function makeFolder(path: string): Promise<void> {
  const fs = nodeModule('node:fs/promises', path);
  const { dirname, resolve } = nodeModule('node:path', path);
  const kind = (at: string): Promise<'folder' | 'file' | undefined> =>
    fs.stat(at).then(
      (info) => (info.isDirectory() ? 'folder' : 'file'),
      () => undefined,
    );
  const make = async (folder: string): Promise<void> => {
    const parent = dirname(folder);
    if (parent !== folder && (await kind(parent)) === undefined) await make(parent);
    await fs.mkdir(folder).catch(async (error) => {
      // It is there already, or another process has made it meanwhile.
      if ((await kind(folder)) !== 'folder') throw error;
    });
  };
  try {
    await make(resolve(path));
  } catch (error) {
    throw describeWriteError(path, error);
  }
}
