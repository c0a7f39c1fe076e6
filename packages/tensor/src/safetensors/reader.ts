import type { Tensor } from '@tensorflow/tfjs-core';
import { ConfigError, FormatError } from '../errors.ts';
import { quote } from '../quote.ts';
import { type Address, besides, isIndex, openAddress, parseAddress, resolveFolder } from './address.ts';
import { decodeTensor } from './decode.ts';
import { readHeader, type StoredTensor, type TensorDescription } from './header.ts';
import { damaged, didYouMean } from './messages.ts';
import { readShardIndex } from './shard-index.ts';
import { type ByteSource, blobSource, bytesSource } from './source.ts';
import type { FetchOptions } from './url-source.ts';

/** A path (Node only), an http(s) or `file:` URL, a Blob or File, or the bytes themselves. */
export type SafetensorsSource = string | URL | Blob | Uint8Array | ArrayBuffer;

/** An open checkpoint of one or more files: its description is in memory, its tensors are read when asked for. */
export interface SafetensorsFile {
  /** The path or URL, for messages. */
  readonly source: string;
  /** Free text by key; `format` is `pt` in files that PyTorch or Ashlar wrote. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Each tensor's dtype, shape and byte length, in the order of the file. */
  readonly tensors: ReadonlyMap<string, TensorDescription>;
  readonly names: readonly string[];
  /** The tensor's bytes as stored: row-major, little-endian; the caller's own. */
  raw(name: string): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * The tensor; the caller disposes it. F64, F32, F16 and BF16 become float32, integers int32, BOOL bool.
   * @throws FormatError for an unknown name, an integer that int32 cannot hold, and 8-bit or smaller floats, complex
   *   numbers: read those with `raw`.
   */
  tensor(name: string): Promise<Tensor>;
  /** Closes the files behind it. Tensors that were read stay. */
  close(): Promise<void>;
}

interface Part {
  readonly source: ByteSource;
  readonly stored: StoredTensor;
}

/**
 * Opens a safetensors checkpoint and checks its whole header; of the tensors, nothing is read yet.
 *
 * A folder stands for the `model.safetensors`, the `model.safetensors.index.json` or else the only checkpoint in it; an
 * index (`*.safetensors.index.json`) opens all its shards as one. From a URL only the needed byte ranges are fetched,
 * if the server can give them.
 *
 * Format: https://github.com/huggingface/safetensors#format
 * @throws FormatError naming the file, the tensor and what is wrong; ConfigError for a source of another kind, or a path
 *   outside Node.
 */
export async function openSafetensors(source: SafetensorsSource, options: FetchOptions = {}): Promise<SafetensorsFile> {
  if (typeof source !== 'string' && !(source instanceof URL)) return openFile(memorySource(source));
  const address = await resolveFolder(parseAddress(source));
  return isIndex(address) ? openShards(address, options) : openFile(await openAddress(address, options));
}

/**
 * Reads all tensors of a checkpoint, as `openSafetensors(source)` and `tensor(name)` would. The caller disposes them; on an
 * error none is left behind.
 */
export async function loadSafetensors(
  source: SafetensorsSource,
  options: FetchOptions = {},
): Promise<Map<string, Tensor>> {
  const file = await openSafetensors(source, options);
  const tensors = new Map<string, Tensor>();
  try {
    for (const name of file.names) tensors.set(name, await file.tensor(name));
    return tensors;
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  } finally {
    await file.close();
  }
}

function memorySource(source: Blob | Uint8Array | ArrayBuffer): ByteSource {
  if (source instanceof Blob) return blobSource(source);
  if (source instanceof Uint8Array) return bytesSource(source, 'The given bytes');
  if (source instanceof ArrayBuffer) return bytesSource(new Uint8Array(source), 'The given bytes');
  throw new ConfigError(`source is ${quote(source)}; it may be a path, an http(s) URL, a Blob or bytes.`);
}

async function openFile(source: ByteSource): Promise<SafetensorsFile> {
  const { metadata, tensors } = await closingOnError([source], () => readHeader(source));
  const parts = new Map([...tensors].map(([name, stored]) => [name, { source, stored }]));
  return checkpoint(source.name, metadata, parts, [source]);
}

async function openShards(address: Address, options: FetchOptions): Promise<SafetensorsFile> {
  const index = await openAddress(address, options);
  const sources: ByteSource[] = [index];
  return closingOnError(sources, async () => {
    const { metadata, weightMap } = await readShardIndex(index);
    const parts = new Map<string, Part>();
    let shardMetadata = {};
    for (const [shard, names] of groupByShard(weightMap)) {
      const source = await openAddress(besides(address, shard), options).catch((error) => {
        if (!(error instanceof FormatError)) throw error;
        throw new FormatError(`${index.name}: its shard ${quote(shard)} cannot be opened. ${error.message}`, {
          cause: error,
        });
      });
      sources.push(source);
      const header = await readHeader(source);
      shardMetadata = { ...shardMetadata, ...header.metadata };
      for (const [name, stored] of header.tensors) {
        if (names.delete(name)) parts.set(name, { source, stored });
      }
      for (const name of names) {
        throw damaged(index.name, `places tensor ${quote(name)} in ${quote(shard)}, which does not hold it`);
      }
    }
    return checkpoint(index.name, { ...shardMetadata, ...metadata }, parts, sources);
  });
}

function groupByShard(weightMap: ReadonlyMap<string, string>): Map<string, Set<string>> {
  const shards = new Map<string, Set<string>>();
  for (const [name, shard] of weightMap) {
    const names = shards.get(shard) ?? new Set();
    shards.set(shard, names.add(name));
  }
  return shards;
}

async function closingOnError<T>(sources: ByteSource[], open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    await closeAll(sources);
    throw error;
  }
}

async function closeAll(sources: readonly ByteSource[]): Promise<void> {
  await Promise.all(sources.map((source) => source.close()));
}

function checkpoint(
  file: string,
  metadata: Readonly<Record<string, string>>,
  parts: ReadonlyMap<string, Part>,
  sources: readonly ByteSource[],
): SafetensorsFile {
  let closed = false;
  const part = (name: string): Part => {
    if (closed) throw new FormatError(`${file}: is closed. Open it again to read tensor ${quote(name)}.`);
    const found = parts.get(name);
    if (found === undefined) {
      throw new FormatError(`${file}: has no tensor ${quote(name)}.${didYouMean(name, parts.keys())}`);
    }
    return found;
  };
  const raw = async (name: string): Promise<Uint8Array<ArrayBuffer>> => {
    const { source, stored } = part(name);
    return stored.byteLength === 0 ? new Uint8Array(0) : source.read(stored.byteOffset, stored.byteLength);
  };
  return {
    source: file,
    metadata,
    tensors: new Map(
      [...parts].map(([name, { stored }]) => {
        const { dtype, shape, byteLength } = stored;
        return [name, { dtype, shape, byteLength }];
      }),
    ),
    names: [...parts.keys()],
    raw,
    tensor: async (name) => {
      const { source, stored } = part(name);
      return decodeTensor(stored, await raw(name), `${source.name}: tensor ${quote(name)}`);
    },
    close: async () => {
      if (closed) return;
      closed = true;
      await closeAll(sources);
    },
  };
}
