import { Tensor } from '@tensorflow/tfjs-core';
import { ConfigError } from '../errors.ts';
import { quote } from '../quote.ts';
import { writeFileAtomic } from '../write-file-atomic.ts';
import { byteLengthOf, DTYPES, isDtype, type SafetensorsDtype } from './dtype.ts';
import { float32ToBfloat16, float32ToFloat16 } from './half-precision.ts';
import { MAX_HEADER_BYTES } from './header.ts';

/** A tensor as bytes: row-major, little-endian. */
export interface TensorBytes {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** How float32 tensors may be stored. */
export type FloatDtype = 'F32' | 'F16' | 'BF16';

export interface SaveSafetensorsOptions {
  /** Free text by key; default `{ format: 'pt' }`, which PyTorch's loaders look for. */
  metadata?: Readonly<Record<string, string>>;
  /**
   * How to store float32 tensors, for all or by name; default `'F32'`. The halves are rounded to nearest, ties to even;
   * in F16 values from 65520 on become infinite.
   */
  dtype?: FloatDtype | ((name: string) => FloatDtype);
}

/** Tensors of float32, int32 or bool values (stored as F32 or as asked, I32, BOOL), or bytes of any dtype. */
export type NamedTensors = Iterable<readonly [name: string, tensor: Tensor | TensorBytes]>;

/**
 * Writes a safetensors file, whole or not at all (see `writeFileAtomic`), as the reference implementation does: tensors by
 * descending dtype alignment, then by name; the header padded with spaces to 8 bytes. One tensor's values at a time are
 * brought from the backend; the tensors must live until the promise settles. Node only.
 * @throws ConfigError for options, names or shapes that the format cannot hold; AshlarError when the file cannot be
 *   written, naming the path and the remedy.
 */
export async function saveSafetensors(
  path: string,
  tensors: NamedTensors,
  options: SaveSafetensorsOptions = {},
): Promise<void> {
  const { header, entries } = plan(tensors, options);
  await writeFileAtomic(
    path,
    (async function* () {
      yield header;
      for (const { tensor, dtype } of entries) {
        yield tensor instanceof Tensor ? encode(await tensor.data(), dtype) : tensor.data;
      }
    })(),
  );
}

/** The bytes of the file that `saveSafetensors` would write: for the browser. */
export function serializeSafetensors(
  tensors: NamedTensors,
  options: SaveSafetensorsOptions = {},
): Uint8Array<ArrayBuffer> {
  const { header, entries } = plan(tensors, options);
  const file = new Uint8Array(entries.reduce((total, { byteLength }) => total + byteLength, header.length));
  file.set(header);
  let offset = header.length;
  for (const { tensor, dtype, byteLength } of entries) {
    file.set(tensor instanceof Tensor ? encode(tensor.dataSync(), dtype) : tensor.data, offset);
    offset += byteLength;
  }
  return file;
}

interface Entry {
  readonly name: string;
  readonly tensor: Tensor | TensorBytes;
  readonly dtype: SafetensorsDtype;
  readonly byteLength: number;
}

/** The header's bytes, its length included, and the tensors in the order in which their bytes follow. */
function plan(tensors: NamedTensors, options: SaveSafetensorsOptions): { header: Uint8Array; entries: Entry[] } {
  const { metadata = { format: 'pt' } } = options;
  checkMetadata(metadata);
  const entries = Array.from(tensors, ([name, tensor]) => toEntry(name, tensor, options));
  entries.sort((a, b) => DTYPES.indexOf(b.dtype) - DTYPES.indexOf(a.dtype) || compareUtf8(a.name, b.name));

  const names = new Set<string>();
  const items = [`"__metadata__":${JSON.stringify(metadata)}`];
  let begin = 0;
  for (const { name, tensor, dtype, byteLength } of entries) {
    if (names.has(name)) throw new ConfigError(`Tensor ${quote(name)} is given twice; names must differ.`);
    names.add(name);
    const end = begin + byteLength;
    items.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape: tensor.shape, data_offsets: [begin, end] })}`);
    begin = end;
  }
  return { header: frame(`{${items.join(',')}}`), entries };
}

function frame(json: string): Uint8Array {
  const text = new TextEncoder().encode(json);
  const length = Math.ceil(text.length / 8) * 8;
  if (length > MAX_HEADER_BYTES) {
    throw new ConfigError(
      `The header takes ${length} bytes; the format allows ${MAX_HEADER_BYTES}. Save fewer tensors.`,
    );
  }
  const header = new Uint8Array(8 + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(text, 8);
  return header;
}

function toEntry(name: string, tensor: Tensor | TensorBytes, { dtype = 'F32' }: SaveSafetensorsOptions): Entry {
  checkText('A tensor name', name);
  if (name === '__metadata__') throw new ConfigError('A tensor is named "__metadata__", which the format reserves.');
  if (tensor instanceof Tensor) {
    const stored = storedDtype(name, tensor, typeof dtype === 'function' ? dtype(name) : dtype);
    return { name, tensor, ...sized(name, stored, tensor.shape) };
  }
  if (!Array.isArray(tensor?.shape)) {
    throw new ConfigError(`Tensor ${quote(name)} is ${quote(tensor)}; it may be a tensor or { dtype, shape, data }.`);
  }
  const { data, shape } = tensor;
  if (!isDtype(tensor.dtype)) {
    throw new ConfigError(
      `Tensor ${quote(name)} has the dtype ${quote(tensor.dtype)}; it may be ${DTYPES.join(', ')}.`,
    );
  }
  const entry = { name, tensor, ...sized(name, tensor.dtype, shape) };
  if (!(data instanceof Uint8Array) || data.length !== entry.byteLength) {
    const given = data instanceof Uint8Array ? `${data.length} bytes` : quote(data);
    const needed = `${tensor.dtype} of shape [${shape}] needs a Uint8Array of ${entry.byteLength}`;
    throw new ConfigError(`Tensor ${quote(name)} has as data ${given}; ${needed}.`);
  }
  return entry;
}

function sized(
  name: string,
  dtype: SafetensorsDtype,
  shape: readonly number[],
): { dtype: SafetensorsDtype; byteLength: number } {
  const size = byteLengthOf(dtype, shape);
  if ('problem' in size) throw new ConfigError(`Tensor ${quote(name)} has the shape [${shape}]: ${size.problem}.`);
  return { dtype, byteLength: size.byteLength };
}

function storedDtype(name: string, tensor: Tensor, float: FloatDtype): SafetensorsDtype {
  if (!['F32', 'F16', 'BF16'].includes(float)) {
    throw new ConfigError(`dtype is ${quote(float)} for tensor ${quote(name)}; it may be "F32", "F16" or "BF16".`);
  }
  switch (tensor.dtype) {
    case 'float32':
      return float;
    case 'int32':
      return 'I32';
    case 'bool':
      return 'BOOL';
    default:
      throw new ConfigError(`Tensor ${quote(name)} is ${tensor.dtype}; only float32, int32 and bool can be saved.`);
  }
}

/** A backend may give plain arrays for small tensors, whatever its types say. */
function encode(values: ArrayLike<number>, dtype: SafetensorsDtype): Uint8Array {
  switch (dtype) {
    case 'I32':
      return bytesOf(values instanceof Int32Array ? values : Int32Array.from(values));
    case 'BOOL':
      return Uint8Array.from(values, (value) => (value ? 1 : 0));
    default: {
      const floats = values instanceof Float32Array ? values : Float32Array.from(values);
      if (dtype === 'F32') return bytesOf(floats);
      return bytesOf(dtype === 'F16' ? float32ToFloat16(floats) : float32ToBfloat16(floats));
    }
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function checkMetadata(metadata: Readonly<Record<string, string>>): void {
  if (typeof metadata !== 'object' || metadata === null) {
    throw new ConfigError(`metadata is ${quote(metadata)}; it may be an object of strings.`);
  }
  for (const [key, value] of Object.entries(metadata)) {
    checkText('A metadata key', key);
    checkText(`metadata ${quote(key)}`, value);
  }
}

/** Lone surrogates have no UTF-8, and readers refuse `__proto__` as a key. */
function checkText(what: string, text: unknown): void {
  if (typeof text !== 'string' || text === '__proto__' || /\p{Surrogate}/u.test(text)) {
    throw new ConfigError(`${what} is ${quote(text)}; it may be any well-formed string but "__proto__".`);
  }
}

/** The order of the UTF-8 bytes, which differs from that of UTF-16 where surrogates meet U+E000 to U+FFFF. */
function compareUtf8(a: string, b: string): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const [x, y] = [a.codePointAt(i)!, b.codePointAt(i)!];
    if (x !== y) return x - y;
  }
  return a.length - b.length;
}
