import { ConfigError, FormatError } from '../errors.ts';
import { nodeModule } from '../node-module.ts';
import { quote } from '../quote.ts';
import { fileSource } from './file-source.ts';
import type { ByteSource } from './source.ts';
import { type FetchOptions, urlSource } from './url-source.ts';

/** Where a file is: a path (Node only) or an http(s) URL. */
export type Address = string | URL;

/** The address in `source`: a path, an http(s) URL, or a `file:` URL as its path. */
export function parseAddress(source: string | URL): Address {
  if (typeof source === 'string' && !/^(https?|file):/i.test(source)) return source;
  const url = URL.canParse(source) ? new URL(source) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url;
  if (url?.protocol === 'file:') return nodeModule('node:url', url.href).fileURLToPath(url);
  throw new ConfigError(`source is ${quote(source)}; it may be a path, an http(s) URL, a Blob or bytes.`);
}

export function openAddress(address: Address, options: FetchOptions): Promise<ByteSource> {
  return typeof address === 'string' ? fileSource(address) : urlSource(address, options);
}

/** Whether the name says that it is the index of a sharded checkpoint. */
export function isIndex(address: Address): boolean {
  return (typeof address === 'string' ? address : address.pathname).endsWith('.index.json');
}

/** The address of `relative`, a `/`-separated path from the folder of `address` that has been checked to stay in it. */
export function besides(address: Address, relative: string): Address {
  if (typeof address !== 'string') return new URL(relative.split('/').map(encodeURIComponent).join('/'), address);
  const { dirname, join } = nodeModule('node:path', address);
  return join(dirname(address), relative);
}

/**
 * The checkpoint in a folder: `model.safetensors`, else `model.safetensors.index.json`, else the only index, else the
 * only safetensors file. An address that is no folder is returned as it is.
 */
export async function resolveFolder(address: Address): Promise<Address> {
  if (typeof address !== 'string') return address;
  const fs = nodeModule('node:fs/promises', address);
  const stats = await fs.stat(address).catch(() => undefined);
  if (!stats?.isDirectory()) return address;
  const names = await fs.readdir(address).catch((error) => {
    throw new FormatError(`${address}: cannot be read: ${error}`, { cause: error });
  });
  const indexes = names.filter((name) => name.endsWith('.safetensors.index.json'));
  const files = names.filter((name) => name.endsWith('.safetensors'));
  const preferred = ['model.safetensors', 'model.safetensors.index.json'].find((name) => names.includes(name));
  const chosen = preferred ?? [indexes, files].find(({ length }) => length > 0);
  if (chosen === undefined) throw new FormatError(`${address}: the folder holds no safetensors files.`);
  if (typeof chosen !== 'string' && chosen.length > 1) {
    const some = chosen.slice(0, 5).sort().map(quote).join(', ');
    throw new FormatError(
      `${address}: the folder holds ${chosen.length} checkpoints (${some} …): name the one to open.`,
    );
  }
  return nodeModule('node:path', address).join(address, typeof chosen === 'string' ? chosen : chosen[0]);
}
