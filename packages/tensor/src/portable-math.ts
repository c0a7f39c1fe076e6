/*
 * Elementary functions made of +, -, *, / alone. IEEE 754 rounds these exactly, so results are bit-identical on every
 * engine and processor; `Math.log`, `Math.cos` and `Math.sin` may differ in the last place from one engine to another.
 */

/** `SCALE[shift] = 2^(shift - 31)`. */
const SCALE: Float64Array = Float64Array.from(
  { length: 33 },
  (_, shift) => (shift < 32 ? (1 << shift) >>> 0 : 0x100000000) / 0x80000000,
);

/** `ln((word + 1/2) / 2^32)`: the logarithm of a uniform number in (0, 1) given by its 32 random bits. */
export function logUniform(word: number): number {
  const shift = Math.clz32(word);
  let mantissa = (word + 0.5) * SCALE[shift];
  let exponent = -1 - shift;
  if (mantissa > Math.SQRT2) {
    mantissa *= 0.5;
    exponent++;
  }
  // ln m = 2 artanh t with t = (m - 1) / (m + 1), |t| < 0.172: nine terms leave a relative error below 1e-15.
  const t = (mantissa - 1) / (mantissa + 1);
  const z = t * t;
  const series =
    z *
    (1 / 3 +
      z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11 + z * (1 / 13 + z * (1 / 15 + z * (1 / 17 + z / 19))))))));
  return exponent * Math.LN2 + 2 * (t + t * series);
}

/**
 * `cos(2 pi (word + 1/2) / 2^32 - pi / 4)`: the cosine of a uniform angle given by its 32 random bits, to 1e-15. The
 * sine of the same angle is that of `word - 2^30`, a quarter turn back.
 */
export function cosTurn(word: number): number {
  const quadrant = word >>> 30;
  const x = ((word & 0x3fffffff) - 0x1fffffff - 0.5) * (Math.PI / 0x80000000);
  const magnitude = quadrant & 1 ? sinQuadrant(x) : cosQuadrant(x);
  return quadrant === 1 || quadrant === 2 ? -magnitude : magnitude;
}

/** `sin x` for `|x| <= pi / 4`, to 1e-15. */
function sinQuadrant(x: number): number {
  const z = x * x;
  return (
    x -
    x *
      z *
      (1 / 6 -
        z *
          (1 / 120 - z * (1 / 5040 - z * (1 / 362880 - z * (1 / 39916800 - z * (1 / 6227020800 - z / 1307674368000))))))
  );
}

/** `cos x` for `|x| <= pi / 4`, to 1e-15. */
function cosQuadrant(x: number): number {
  const z = x * x;
  return (
    1 -
    z *
      (1 / 2 -
        z *
          (1 / 24 -
            z *
              (1 / 720 -
                z *
                  (1 / 40320 - z * (1 / 3628800 - z * (1 / 479001600 - z * (1 / 87178291200 - z / 20922789888000)))))))
  );
}
