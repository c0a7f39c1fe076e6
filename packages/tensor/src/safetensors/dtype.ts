import { quote } from '../quote.ts';
/**
 * Bits per element of each dtype of the format, in the order of the reference implementation (increasing alignment),
 * by which writers sort. The names are its own: `F8_E4M3` is 8-bit floating point with 4 exponent and 3 mantissa bits.
 */
export const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** An element type as safetensors files name it. */
export type SafetensorsDtype = keyof typeof DTYPE_BITS;

/** All dtypes, in increasing alignment. */
export const DTYPES: readonly SafetensorsDtype[] = Object.keys(DTYPE_BITS) as SafetensorsDtype[];

export function isDtype(value: unknown): value is SafetensorsDtype {
  return typeof value === 'string' && Object.hasOwn(DTYPE_BITS, value);
}

/**
 * The bytes that `shape` takes, or what is wrong with it: dimensions must be whole numbers from 0, sizes must stay
 * below 2^53, and elements of less than a byte must fill whole bytes.
 */
export function byteLengthOf(
  dtype: SafetensorsDtype,
  shape: readonly unknown[],
): { byteLength: number } | { problem: string } {
  let bits: number = DTYPE_BITS[dtype];
  for (const [axis, size] of shape.entries()) {
    if (!isSize(size)) return { problem: `dimension ${axis} is ${quote(size)}, not a whole number from 0` };
    bits *= size;
    if (!Number.isSafeInteger(bits)) return { problem: 'the product of its dimensions is too large' };
  }
  if (bits % 8 !== 0) return { problem: `its ${bits} bits do not fill whole bytes` };
  return { byteLength: bits / 8 };
}

/** Whether `value` is a whole number from 0 that a double holds exactly (and not -0). */
export function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && Object.is(Math.abs(value as number), value);
}
