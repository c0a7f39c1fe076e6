/** Cosines and sines, row by row: `[positions, pairs]`. */
export interface CosSin {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/**
 * Cosines and sines of `position * frequency`, kept for the whole positions from 0 up to a limit. Kept on the host and not
 * as tensors, so that nothing has to be disposed of and any backend may ask.
 */
export class RotaryTable {
  readonly #frequencies: Float32Array;
  readonly #scale: number;
  readonly #limit: number;
  #cos: Float32Array = new Float32Array(0);
  #sin: Float32Array = new Float32Array(0);

  /** @param scale what cosines and sines are multiplied by. @param limit the most positions that are kept. */
  constructor(frequencies: Float32Array, scale: number, limit: number) {
    this.#frequencies = frequencies;
    this.#scale = scale;
    this.#limit = limit;
  }

  /** The rows of `positions`, which may be any numbers. */
  rows(positions: ArrayLike<number>): CosSin {
    const pairs = this.#frequencies.length;
    let needed = 0;
    for (let i = 0; i < positions.length; i++) {
      if (this.#keeps(positions[i])) needed = Math.max(needed, positions[i] + 1);
    }
    this.#grow(needed);
    const cos = new Float32Array(positions.length * pairs);
    const sin = new Float32Array(positions.length * pairs);
    for (let i = 0; i < positions.length; i++) {
      if (this.#keeps(positions[i])) {
        const from = positions[i] * pairs;
        cos.set(this.#cos.subarray(from, from + pairs), i * pairs);
        sin.set(this.#sin.subarray(from, from + pairs), i * pairs);
      } else {
        this.#write(positions[i], cos, sin, i * pairs);
      }
    }
    return { cos, sin };
  }

  #keeps(position: number): boolean {
    return Number.isInteger(position) && position >= 0 && position < this.#limit;
  }

  #grow(needed: number): void {
    const pairs = this.#frequencies.length;
    const have = this.#cos.length / Math.max(pairs, 1);
    if (needed <= have) return;
    const size = Math.min(this.#limit, Math.max(needed, 2 * have));
    const cos = new Float32Array(size * pairs);
    const sin = new Float32Array(size * pairs);
    cos.set(this.#cos);
    sin.set(this.#sin);
    for (let position = have; position < size; position++) this.#write(position, cos, sin, position * pairs);
    this.#cos = cos;
    this.#sin = sin;
  }

  #write(position: number, cos: Float32Array, sin: Float32Array, offset: number): void {
    for (let pair = 0; pair < this.#frequencies.length; pair++) {
      // Angles are rounded to float32, as in the code that published weights were trained with.
      const angle = Math.fround(position * this.#frequencies[pair]);
      cos[offset + pair] = this.#scale * Math.cos(angle);
      sin[offset + pair] = this.#scale * Math.sin(angle);
    }
  }
}
