import { FormatError } from '../errors.ts';
import { quote } from '../quote.ts';
import { MAX_HEADER_BYTES } from './header.ts';
import { isObject, parseJsonObject } from './json.ts';
import { damaged } from './messages.ts';
import type { ByteSource } from './source.ts';

/** What `*.safetensors.index.json` says: which file of the folder holds each tensor. */
export interface ShardIndex {
  /** Its metadata, numbers (`total_size`) as text. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Tensor name to a shard's path from the index's folder. */
  readonly weightMap: ReadonlyMap<string, string>;
}

/**
 * Reads and checks `{"metadata": {"total_size": …}, "weight_map": {"tensor": "model-00001-of-00002.safetensors", …}}`.
 * `total_size` is passed on, not compared: published checkpoints count tied and boolean tensors in several ways.
 * @throws FormatError naming the index, the tensor and what is wrong.
 */
export async function readShardIndex(source: ByteSource): Promise<ShardIndex> {
  const { name: file, size } = source;
  if (size > MAX_HEADER_BYTES) throw damaged(file, `has ${size} bytes, more than the ${MAX_HEADER_BYTES} of an index`);
  const index = parseJsonObject(await source.read(0, size), file);
  const { weight_map: weightMap, metadata = {} } = index;
  if (!isObject(weightMap)) throw damaged(file, `has the weight_map ${quote(weightMap)}, not an object`);
  if (!isObject(metadata)) throw damaged(file, `has the metadata ${quote(metadata)}, not an object`);
  const { total_size: totalSize = 0 } = metadata;
  if (typeof totalSize !== 'number' || !(totalSize >= 0)) {
    throw damaged(file, `has the metadata.total_size ${quote(totalSize)}, not a number from 0`);
  }
  const shards = Object.entries(weightMap).map(([name, shard]): [string, string] => {
    if (!staysInside(shard)) {
      const where = `${file}: tensor ${quote(name)}`;
      throw new FormatError(`${where}: its shard ${quote(shard)} is not the name of a file in the index's folder.`);
    }
    return [name, shard];
  });
  const texts = Object.entries(metadata).filter(([, value]) => typeof value === 'string' || typeof value === 'number');
  return {
    metadata: Object.fromEntries(texts.map(([key, value]) => [key, String(value)])),
    weightMap: new Map(shards),
  };
}

/** Whether `shard` is a relative path that no system takes out of the folder: no `..`, no drive, scheme or backslash. */
function staysInside(shard: unknown): shard is string {
  return (
    typeof shard === 'string' && shard.split('/').every((part) => /^(?!\.{1,2}$)[^\\:\0\p{Surrogate}]+$/u.test(part))
  );
}
