/**
 * The GPT that every peer trains: 4 layers of width 256, 8 x 128 tokens, 1000 words; loss, gradients and a step of
 * gradient descent. The weights are a formula, so that each language makes the same ones.
 */
export const [BATCH, LENGTH, WIDTH, HEADS, LAYERS, WORDS] = [8, 128, 256, 4, 4, 1000];
export const EPSILON = 1e-5;
export const RATE = 0.1;

/** Multiplications and additions of the matrix products, forward and twice that backward. */
export const FLOPS = 6 * BATCH * LENGTH * (LAYERS * (12 * WIDTH ** 2 + 2 * LENGTH * WIDTH) + WORDS * WIDTH);

/** Numbers in [-0.5, 0.5) that look random: `i`, times a large odd number, modulo 2^32. */
export function noise(size, seed) {
  return Float32Array.from({ length: size }, (_, i) => {
    const x = Math.imul(Math.imul(i + seed * 100003 + 1, 2654435761) ^ ((i + seed) >>> 3), 2246822519);
    return (x >>> 0) / 2 ** 32 - 0.5;
  });
}

export function gptWeights() {
  let seed = 0;
  const normal = (...shape) => {
    const data = noise(
      shape.reduce((a, b) => a * b, 1),
      seed++,
    ).map((x) => 0.07 * x);
    return { shape, data };
  };
  const ones = () => ({ shape: [WIDTH], data: new Float32Array(WIDTH).fill(1) });
  return {
    embedding: normal(WORDS, WIDTH),
    position: normal(LENGTH, WIDTH),
    layers: Array.from({ length: LAYERS }, () => ({
      qkv: normal(WIDTH, 3 * WIDTH),
      out: normal(WIDTH, WIDTH),
      up: normal(WIDTH, 4 * WIDTH),
      down: normal(4 * WIDTH, WIDTH),
      scale1: ones(),
      scale2: ones(),
    })),
  };
}

export function tokens() {
  return {
    words: Int32Array.from({ length: BATCH * LENGTH }, (_, i) => (i * 7919) % WORDS),
    next: Int32Array.from({ length: BATCH * LENGTH }, (_, i) => (i * 104729) % WORDS),
  };
}
