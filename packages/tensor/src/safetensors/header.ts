import { FormatError } from '../errors.ts';
import { quote } from '../quote.ts';
import { byteLengthOf, DTYPES, isDtype, isSize, type SafetensorsDtype } from './dtype.ts';
import { isObject, parseJsonObject } from './json.ts';
import { damaged } from './messages.ts';
import type { ByteSource } from './source.ts';

/** The reference implementation's limit. */
export const MAX_HEADER_BYTES = 100_000_000;

/** What a file says about one tensor. */
export interface TensorDescription {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/** A tensor's place: `byteOffset` counts from the start of the file. */
export interface StoredTensor extends TensorDescription {
  readonly byteOffset: number;
}

export interface Header {
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/**
 * Reads and checks the header: 8 bytes of little-endian length, then that many of JSON,
 * `{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …, "__metadata__": {"key": "text"}}`.
 * The tensors' bytes must follow one another without gap or overlap up to the end of the file.
 * Format: https://github.com/huggingface/safetensors#format
 * @throws FormatError naming the file, the tensor and what is wrong.
 */
export async function readHeader(source: ByteSource): Promise<Header> {
  const { name: file, size } = source;
  if (size < 8) throw damaged(file, `has ${size} bytes, fewer than the 8 that give the header's length`);
  const prefix = await source.read(0, 8);
  const length = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES) {
    refuseForeign(file, prefix);
    throw damaged(file, `gives its header ${length} bytes, more than the ${MAX_HEADER_BYTES} that the format allows`);
  }
  if (length === 0) throw damaged(file, 'gives its header 0 bytes');
  if (length > size - 8) throw damaged(file, `ends within its header: ${length} bytes from byte 8, of ${size} in all`);
  const header = parseJsonObject(await source.read(8, length), `${file}: the header`);

  const tensors: [string, StoredTensor][] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name !== '__metadata__') tensors.push([name, parseTensor(`${file}: tensor ${quote(name)}`, entry, 8 + length)]);
  }
  tensors.sort(([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkCoverage(file, tensors, 8 + length, size);
  return { metadata: parseMetadata(file, header.__metadata__), tensors: new Map(tensors) };
}

function parseTensor(where: string, entry: unknown, dataStart: number): StoredTensor {
  if (!isObject(entry)) throw damaged(where, `is described by ${quote(entry)}, not by an object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (!isDtype(dtype)) {
    throw new FormatError(`${where}: has the unknown dtype ${quote(dtype)}. Known are ${DTYPES.join(', ')}.`);
  }
  if (!Array.isArray(shape)) throw damaged(where, `has the shape ${quote(shape)}, not a list of numbers`);
  const expected = byteLengthOf(dtype, shape);
  if ('problem' in expected) throw damaged(where, `has the shape ${quote(shape)}: ${expected.problem}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw damaged(where, `has the data_offsets ${quote(offsets)}, not two whole numbers from 0`);
  }
  const [begin, end] = offsets;
  if (end < begin) throw damaged(where, `has the data_offsets [${begin}, ${end}], which run backwards`);
  const { byteLength } = expected;
  if (end - begin !== byteLength) {
    throw damaged(where, `has ${end - begin} bytes; ${dtype} of shape ${quote(shape)} takes ${byteLength}`);
  }
  return { dtype, shape, byteLength, byteOffset: dataStart + begin };
}

function checkCoverage(file: string, tensors: [string, StoredTensor][], dataStart: number, size: number): void {
  let end = dataStart;
  let previous = 'the header';
  for (const [name, { byteOffset, byteLength }] of tensors) {
    const where = `${file}: tensor ${quote(name)}`;
    if (byteOffset < end) throw damaged(where, `overlaps ${previous}: it starts at byte ${byteOffset}, before ${end}`);
    if (byteOffset > end) throw damaged(where, `leaves a hole of ${byteOffset - end} bytes after ${previous}`);
    end += byteLength;
    if (end > size) throw damaged(where, `ends at byte ${end}, but the file has only ${size}`);
    previous = `tensor ${quote(name)}`;
  }
  if (end !== size) throw damaged(file, `has ${size - end} bytes after ${previous} that belong to no tensor`);
}

function parseMetadata(file: string, metadata: unknown): Record<string, string> {
  if (metadata === undefined) return {};
  if (!isObject(metadata)) throw damaged(file, `has the __metadata__ ${quote(metadata)}, not an object`);
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string')
      throw damaged(file, `has __metadata__ ${quote(key)} = ${quote(value)}, not a string`);
  }
  return metadata as Record<string, string>;
}

/** Beginnings of other files that are often found under a `.safetensors` name, and what to do about them. */
const FOREIGN: [string, string][] = [
  ['version ', 'is a Git LFS pointer, not the file itself. Fetch that with `git lfs pull`'],
  ['PK\u0003\u0004', 'is a zip archive, perhaps a PyTorch checkpoint. Save it again with safetensors.torch.save_file'],
  ['GGUF', 'is a GGUF file. Read it with a GGUF reader'],
  ['<', 'is a web page or XML, not a safetensors file. Check the address it was fetched from'],
];

function refuseForeign(file: string, prefix: Uint8Array): void {
  const start = String.fromCharCode(...prefix);
  const match = FOREIGN.find(([signature]) => start.startsWith(signature));
  if (match !== undefined) throw new FormatError(`${file}: ${match[1]}.`);
}
