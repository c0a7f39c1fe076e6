import { ConfigError, ShapeError, type Tensor } from '@ashlar/tensor';

/** @throws ShapeError unless positions are `[seq]` for one axis, `[seq, axes]` (or `[seq]` with one) otherwise. */
export function checkPositions(owner: string, positions: Tensor, axes = 1): void {
  const fits = axes === 1 ? positions.rank === 1 || isColumns(positions, 1) : isColumns(positions, axes);
  if (!fits) {
    const expected = axes === 1 ? '[seq]' : `[seq, ${axes}]`;
    throw new ShapeError(`${owner}: positions must be ${expected}, not [${positions.shape}].`);
  }
}

function isColumns(positions: Tensor, axes: number): boolean {
  return positions.rank === 2 && positions.shape[1] === axes;
}

/**
 * Positions as numbers of the host.
 * @throws ConfigError if one is not a whole number from 0: `owner` has a table, or divides into groups.
 */
export function wholePositions(owner: string, positions: Tensor): ArrayLike<number> {
  const values = positions.dataSync<'float32' | 'int32'>();
  const index = values.findIndex((value) => !(Number.isInteger(value) && value >= 0));
  if (index === -1) return values;
  const [value, remedy] = [values[index], 'use Sinusoidal, Rope or Alibi'];
  throw new ConfigError(
    value < 0
      ? `${owner} takes positions from 0, not ${value} (index ${index}); shift them, or ${remedy}.`
      : `${owner} takes whole positions, not ${value} (index ${index}); round them, or ${remedy}.`,
  );
}

/** The length of the sequence that positions come from: one more than the last. */
export function lengthOf(positions: Tensor): number {
  let last = -1;
  for (const position of positions.dataSync<'int32' | 'float32'>()) last = Math.max(last, position);
  return last + 1;
}
