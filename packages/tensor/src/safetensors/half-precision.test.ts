import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from './half-precision.ts';

const ALL = Uint16Array.from({ length: 1 << 16 }, (_, i) => i);

const FORMATS = [
  { name: 'float16', exponentBits: 5, mantissaBits: 10, widen: float16ToFloat32, round: float32ToFloat16 },
  { name: 'bfloat16', exponentBits: 8, mantissaBits: 7, widen: bfloat16ToFloat32, round: float32ToBfloat16 },
];

describe.each(FORMATS)('$name', ({ exponentBits, mantissaBits, widen, round }) => {
  const bias = 2 ** (exponentBits - 1) - 1;
  const infinity = (2 ** exponentBits - 1) << mantissaBits;

  /** The definition, in float64: what the bits mean. */
  function valueOf(half: number): number {
    const sign = half & 0x8000 ? -1 : 1;
    const magnitude = half & 0x7fff;
    const mantissa = magnitude % 2 ** mantissaBits;
    const exponent = magnitude >> mantissaBits;
    if (magnitude > infinity) return Number.NaN;
    if (magnitude === infinity) return sign * Number.POSITIVE_INFINITY;
    if (exponent === 0) return sign * mantissa * 2 ** (1 - bias - mantissaBits);
    return sign * (1 + mantissa / 2 ** mantissaBits) * 2 ** (exponent - bias);
  }

  /** The definition of rounding: the nearest of all values, the even one of two; the next after the largest is infinity. */
  function nearest(value: number): number {
    const magnitude = Math.abs(value);
    let [low, high] = [0, infinity];
    const ascending = (half: number): number => (half === infinity ? 2 ** (bias + 1) : valueOf(half));
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (ascending(middle) <= magnitude) low = middle;
      else high = middle;
    }
    const [down, up] = [magnitude - ascending(low), ascending(high) - magnitude];
    const half = down < up || (down === up && low % 2 === 0) ? low : high;
    return half | (Object.is(Math.sign(value), -0) || value < 0 ? 0x8000 : 0);
  }

  it('widens every value exactly', () => {
    const widened = widen(ALL);
    for (const half of ALL) {
      if (!Object.is(widened[half], valueOf(half))) expect.unreachable(`${half}: ${widened[half]}`);
    }
  });

  it('rounds every value to itself, and NaN to a NaN of the same sign', () => {
    const rounded = round(widen(ALL));
    for (const half of ALL) {
      const isNaN = (half & 0x7fff) > infinity;
      const same = isNaN
        ? (rounded[half] & 0x7fff) > infinity && rounded[half] >> 15 === half >> 15
        : rounded[half] === half;
      if (!same) expect.unreachable(`${half}: ${rounded[half]}`);
    }
  });

  it('rounds float32 to nearest, ties to even', () => {
    const any = fc.integer({ min: 0, max: 0xffffffff }).map((bits) => new Float32Array(Uint32Array.of(bits).buffer)[0]);
    // Halfway points between neighbours and the float32 values around them.
    const tie = fc
      .tuple(fc.integer({ min: 0, max: infinity - 1 }), fc.integer({ min: -1, max: 1 }), fc.boolean())
      .map(([half, nudge, negative]) => {
        const upper = half + 1 === infinity ? 2 ** (bias + 1) : valueOf(half + 1);
        const bits = new Uint32Array(Float32Array.of((valueOf(half) + upper) / 2).buffer);
        const value = new Float32Array(Uint32Array.of(Math.max(0, bits[0] + nudge)).buffer)[0];
        return negative ? -value : value;
      });
    fc.assert(
      fc.property(fc.array(fc.oneof(any, tie), { minLength: 1, maxLength: 50 }), (values) => {
        const finite = values.filter((value) => !Number.isNaN(value));
        expect([...round(Float32Array.from(finite))]).toEqual(finite.map(nearest));
      }),
      { numRuns: 1000 },
    );
  });

  it('keeps every NaN a NaN', () => {
    const signalling = new Float32Array(Uint32Array.of(0x7f800001, 0xff800001, 0x7fffffff, 0xffffffff).buffer);
    const rounded = round(signalling);
    expect([...rounded].map((half) => (half & 0x7fff) > infinity)).toEqual([true, true, true, true]);
    expect([...rounded].map((half) => half >> 15)).toEqual([0, 1, 0, 1]);
  });
});

it('rounds float16 at its edges', () => {
  const values = [
    65504,
    65519.996,
    65520,
    2 ** -24,
    2 ** -25,
    2 ** -25 * 1.0000001,
    2 ** -14 - 2 ** -26,
    -0,
    -Infinity,
  ];
  expect([...float32ToFloat16(Float32Array.from(values))]).toEqual([
    0x7bff, 0x7bff, 0x7c00, 1, 0, 1, 0x400, 0x8000, 0xfc00,
  ]);
});
