import { ConfigError, checkIntegers, currentTrace, getBackend, quote, ShapeError, type Tensor } from '@ashlar/tensor';

/**
 * @throws ShapeError unless positions are `[seq]` for one axis, `[seq, axes]` (or `[seq]` with one) otherwise; ConfigError
 *   unless they are int32 or float32 and finite.
 */
export function checkPositions(owner: string, positions: Tensor, axes = 1): void {
  const expected = axes === 1 ? '[seq]' : `[seq, ${axes}]`;
  if (positions?.shape === undefined) {
    throw new ShapeError(`${owner}: positions must be a tensor ${expected}, not ${quote(positions)}.`);
  }
  const fits = axes === 1 ? positions.rank === 1 || isColumns(positions, 1) : isColumns(positions, axes);
  if (!fits) throw new ShapeError(`${owner}: positions must be ${expected}, not [${positions.shape}].`);
  if (positions.dtype === 'int32') return;
  if (positions.dtype !== 'float32') {
    throw new ConfigError(`${owner}: positions are ${positions.dtype}; they must be int32 or float32.`);
  }
  const strange = knownValues(positions)?.find((value) => !Number.isFinite(value));
  if (strange !== undefined) throw new ConfigError(`${owner} takes finite positions, not ${strange}.`);
}

function isColumns(positions: Tensor, axes: number): boolean {
  return positions.rank === 2 && positions.shape[1] === axes;
}

/**
 * The numbers of `tensor` where a look at them does no harm: under `jit` they may be unknown, and what a WebGPU device has is
 * slow to wait for, or cannot be (in Node).
 */
export function knownValues(tensor: Tensor): Float32Array | Int32Array | undefined {
  if (currentTrace() !== undefined || getBackend() === 'webgpu') return undefined;
  return tensor.dataSync<'float32' | 'int32'>();
}

/**
 * Positions as numbers of the host.
 * @throws ConfigError if one is not a whole number from 0: `owner` has a table, or divides into groups.
 */
export function wholePositions(owner: string, positions: Tensor): ArrayLike<number> {
  const values = positions.dataSync<'float32' | 'int32'>();
  const index = values.findIndex((value) => !(Number.isInteger(value) && value >= 0));
  if (index === -1) return values;
  const [value, axes] = [values[index], positions.shape[1] ?? 1];
  const remedy = axes === 1 ? 'use Sinusoidal, Rope or Alibi' : `use Rope or MdLrpe with axes: ${axes}`;
  throw new ConfigError(
    value < 0
      ? `${owner} takes positions from 0, not ${value} (index ${index}); shift them, or ${remedy}.`
      : `${owner} takes whole positions, not ${value} (index ${index}); round them, or ${remedy}.`,
  );
}

/** The length of the sequence that positions come from: one more than the last. */
export function lengthOf(positions: Tensor): number {
  checkPositions('The length of a sequence', positions);
  let last = -1;
  for (const position of positions.dataSync<'int32' | 'float32'>()) last = Math.max(last, position);
  return last + 1;
}

/** The most cells, or other things that are made one by one on the host. */
export const MOST = 2 ** 24;

/**
 * `sizes`. @throws ConfigError naming the option of `owner` unless they are whole numbers from 1, `length` of them if given,
 * and their product at most `MOST`.
 */
export function checkGrid(owner: string, option: string, sizes: unknown, length?: number): readonly number[] {
  const sides = checkIntegers(owner, option, sizes, { length });
  const cells = sides.reduce((product, side) => product * side, 1);
  if (cells <= MOST) return sides;
  throw new ConfigError(`${owner}: ${option} is [${sides}]; their product, ${cells}, may be at most ${MOST} (2^24).`);
}
