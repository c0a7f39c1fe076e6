/** FNV-1a over the 32-bit words of some arrays, one after the other: 8 hexadecimal digits. */
export function checksum(...arrays: readonly (Float32Array | Int32Array)[]): string {
  let hash = 0x811c9dc5;
  for (const { buffer, byteOffset, length } of arrays) {
    for (const word of new Uint32Array(buffer, byteOffset, length)) hash = Math.imul(hash ^ word, 0x01000193);
  }
  return (hash >>> 0).toString(16).padStart(8, '0');
}
