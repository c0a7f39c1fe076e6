import { checkInteger, type Rng, type Tensor1D, type Tensor2D, tensor1d, tensor2d } from '@ashlar/tensor';

export interface NeedleOptions {
  /** Sequences. */
  readonly count: number;
  /** Tokens of a sequence, at least 4. */
  readonly length: number;
  /** How many different values there are. Default 24. */
  readonly symbols?: number;
}

/** Tokens `0 .. symbols - 1` are values; `symbols` marks the needle and `symbols + 1` asks for it. */
export interface NeedleTask {
  /** int32 `[count, length]`. */
  readonly ids: Tensor2D;
  /** What the last token asks for, int32 `[count]`. */
  readonly labels: Tensor1D;
}

/**
 * Retrieval of a needle: random values, somewhere among them a marker followed by the value to be found, and a query at
 * the end. Chance is one in `symbols`. The caller disposes of both tensors.
 */
export function needleTask(options: NeedleOptions, rng: Rng): NeedleTask {
  const { count, length, symbols = 24 } = options;
  checkInteger('needleTask', 'count', count);
  checkInteger('needleTask', 'length', length, 4);
  checkInteger('needleTask', 'symbols', symbols, 2);
  const ids = new Int32Array(count * length);
  const labels = new Int32Array(count);
  for (let row = 0; row < count; row++) {
    const at = row * length;
    for (let i = 0; i < length - 1; i++) ids[at + i] = rng.integer(0, symbols);
    const marker = rng.integer(0, length - 2);
    ids[at + marker] = symbols;
    labels[row] = ids[at + marker + 1];
    ids[at + length - 1] = symbols + 1;
  }
  return { ids: tensor2d(ids, [count, length], 'int32'), labels: tensor1d(labels, 'int32') };
}
