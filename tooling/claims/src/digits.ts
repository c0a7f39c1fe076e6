import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Grey values of an 8x8 picture, row by row, in [0, 1]. */
export type DigitPicture = Float32Array;

/**
 * The 1,797 handwritten digits of the UCI test set (Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits"),
 * as scikit-learn ships them, in their order.
 */
export function loadDigits(): { pictures: DigitPicture[]; labels: number[] } {
  const [, ...lines] = readFileSync(join(import.meta.dirname, '../data/digits.csv'), 'utf8')
    .trim()
    .split('\n');
  const rows = lines.map((line) => line.split(',').map(Number));
  return {
    pictures: rows.map((row) => Float32Array.from(row.slice(0, 64), (value) => value / 16)),
    labels: rows.map((row) => row[64]),
  };
}

/** The picture turned by 90 degrees counter-clockwise. */
export function turned(picture: DigitPicture): DigitPicture {
  return picture.map((_, i) => picture[(i % 8) * 8 + (7 - Math.floor(i / 8))]);
}
