let float16Bits: Uint32Array | undefined;

/** The float32 bits of all 65,536 binary16 values. */
function float16Table(): Uint32Array {
  const bits = new Uint32Array(1 << 16);
  const floats = new Float32Array(bits.buffer);
  for (let half = 0; half < bits.length; half++) {
    const exponent = (half >>> 10) & 0x1f;
    const mantissa = half & 0x3ff;
    if (exponent === 0) floats[half] = mantissa * 2 ** -24;
    else bits[half] = ((exponent === 0x1f ? 0xff : exponent + 112) << 23) | (mantissa << 13);
    bits[half] |= (half & 0x8000) << 16;
  }
  return bits;
}

/** IEEE 754 binary16 to float32; exact for every value, NaN payloads included. */
export function float16ToFloat32(halves: Uint16Array): Float32Array<ArrayBuffer> {
  float16Bits ??= float16Table();
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) bits[i] = float16Bits[halves[i]];
  return new Float32Array(bits.buffer);
}

/**
 * float32 to IEEE 754 binary16, rounded to nearest, ties to even. From 65520 on the result is infinite, as in PyTorch;
 * NaNs stay NaNs of the same sign.
 */
export function float32ToFloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const sign = (bits[i] >>> 16) & 0x8000;
    const magnitude = bits[i] & 0x7fffffff;
    halves[i] = sign | float16Magnitude(magnitude);
  }
  return halves;
}

function float16Magnitude(magnitude: number): number {
  if (magnitude > 0x7f800000) return 0x7e00 | ((magnitude >>> 13) & 0x3ff);
  if (magnitude >= 0x47800000) return 0x7c00;
  // Adding just under half a unit, plus the last kept bit, rounds ties to even; a carry moves into the exponent.
  if (magnitude >= 0x38800000) return (magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return 0;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  return (mantissa + (1 << (shift - 1)) - 1 + ((mantissa >>> shift) & 1)) >>> shift;
}

/** bfloat16 (the upper half of a float32) to float32; exact. */
export function bfloat16ToFloat32(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i] << 16;
  return new Float32Array(bits.buffer);
}

/** float32 to bfloat16, rounded to nearest, ties to even; NaNs stay NaNs of the same sign. */
export function float32ToBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const isNaN = (bits[i] & 0x7fffffff) > 0x7f800000;
    halves[i] = isNaN ? (bits[i] >>> 16) | 0x40 : (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) >>> 16;
  }
  return halves;
}
