import { FormatError } from '../errors.ts';

/** Bytes that can be read piece by piece. */
export interface ByteSource {
  /** Names it in errors. */
  readonly name: string;
  readonly size: number;
  /** Exactly `length` bytes from `offset`, which lie within `size`; alone in a buffer of their own. */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

/** Bytes in memory. */
export function bytesSource(bytes: Uint8Array, name: string): ByteSource {
  return {
    name,
    size: bytes.length,
    // Not `slice`, which for a Node Buffer does not copy.
    read: async (offset, length) => new Uint8Array(bytes.subarray(offset, offset + length)),
    close: async () => {},
  };
}

/** A Blob or a File, of which nothing but the asked ranges comes into memory. */
export function blobSource(blob: Blob): ByteSource {
  const name = typeof File !== 'undefined' && blob instanceof File ? blob.name : 'The given Blob';
  return {
    name,
    size: blob.size,
    async read(offset, length) {
      try {
        return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      } catch (error) {
        throw new FormatError(`${name}: cannot be read: ${error}. Choose the file again.`, { cause: error });
      }
    },
    close: async () => {},
  };
}

/** Room for `length` bytes; a file may hold more in one piece than an array can. */
export function allocate(length: number, name: string): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(length);
  } catch (error) {
    throw new FormatError(`${name}: ${length} bytes in one piece are more than this machine can allocate.`, {
      cause: error,
    });
  }
}
