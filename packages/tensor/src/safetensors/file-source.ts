import { FormatError } from '../errors.ts';
import { nodeModule } from '../node-module.ts';
import { damaged, didYouMean } from './messages.ts';
import { allocate, type ByteSource } from './source.ts';

/** The most that one read asks for; the operating system takes no more than 2 GiB. */
const MAX_READ = 2 ** 30;

/** A file on disk, kept open until `close`. Node only. */
export async function fileSource(path: string): Promise<ByteSource> {
  const fs = nodeModule('node:fs/promises', path);
  const unreadable = async (error: unknown): Promise<never> => {
    throw new FormatError(`${path}: cannot be read: ${await explain(path, error)}`, { cause: error });
  };
  const stats = await fs.stat(path).catch(unreadable);
  // Opening a pipe would wait for its writer.
  if (!stats.isFile()) throw new FormatError(`${path}: is not a file.`);
  const file = await fs.open(path, 'r').catch(unreadable);
  return {
    name: path,
    size: stats.size,
    async read(offset, length) {
      const bytes = allocate(length, path);
      for (let filled = 0; filled < length; ) {
        const most = Math.min(length - filled, MAX_READ);
        const { bytesRead } = await file.read(bytes, filled, most, offset + filled).catch(unreadable);
        if (bytesRead === 0) throw damaged(path, `ends at byte ${offset + filled}: it was cut short while open`);
        filled += bytesRead;
      }
      return bytes;
    },
    close: () => file.close(),
  };
}

async function explain(path: string, error: unknown): Promise<string> {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) return String(error);
  const { dirname, basename } = nodeModule('node:path', path);
  const folder = dirname(path);
  const names = await nodeModule('node:fs/promises', path)
    .readdir(folder)
    .catch(() => undefined);
  if (names === undefined) return `the folder ${folder} does not exist.`;
  // Names are compared by their last dotted part too: the common ending would make all alike.
  const endings = /\.safetensors(\.index\.json)?$/;
  const stems = new Map(names.filter((name) => endings.test(name)).map((name) => [name.replace(endings, ''), name]));
  const hint = didYouMean(basename(path).replace(endings, ''), stems.keys(), (stem) => stems.get(stem)!);
  return `no such file.${hint || ` The folder ${folder} holds no safetensors files.`}`;
}
