import {
  ConfigError,
  cast,
  checkChoice,
  checkInteger,
  checkNumber,
  checkOptions,
  concat,
  floorDiv,
  gather,
  greaterEqual,
  less,
  logicalAnd,
  maximum,
  mod,
  mul,
  ones,
  reshape,
  ShapeError,
  scalar,
  sub,
  sum,
  type Tensor,
  tensor,
  tensor1d,
  tidy,
  tril,
  where,
} from '@ashlar/tensor';
import { checkGrid, checkPositions, wholePositions } from './positions.ts';

export interface PositionDigitsOptions {
  /** Digits of each coordinate. */
  readonly maxDigits: number;
  /** Default 10. */
  readonly base?: number;
  /** Whether short numbers are padded before their first digit, or after their last. Default true. */
  readonly leftPad?: boolean;
  /** The digit that pads. Default 0. */
  readonly padValue?: number;
  /** Coordinates of a position. Default as many as `positions` has. */
  readonly axes?: number;
}

/**
 * Positions as strings of digits: each coordinate padded to `maxDigits`, one after the other.
 * @param positions `[seq]` or `[seq, axes]`, whole.
 * @returns int32 `[seq, axes maxDigits]`: the digits, and a mask of 1 for digits and 0 for padding; 0 has one digit.
 * @throws ConfigError for a coordinate that is negative, fractional or longer than `maxDigits`, ShapeError for one too
 *   many or too few.
 */
export function positionDigits(positions: Tensor, options: PositionDigitsOptions): { digits: Tensor; mask: Tensor } {
  checkDigits('positionDigits', options);
  checkPlaces('positionDigits', positions, options);
  return digitsOf(positions, options);
}

/** As `positionDigits`, for positions known to be right: under `jit` they may not be there to be looked at. */
export function digitsOf(positions: Tensor, options: PositionDigitsOptions): { digits: Tensor; mask: Tensor } {
  const { maxDigits, base = 10, leftPad = true, padValue = 0 } = options;
  const axes = positions.shape[1] ?? 1;
  const powers = Array.from({ length: maxDigits }, (_, place) => base ** place);
  return tidy(() => {
    // A plain number would turn int32 into float32.
    const whole = (x: number): Tensor => scalar(x, 'int32');
    const numbers = reshape(cast(positions, 'int32'), [-1, axes, 1]);
    // One digit for each power that a number reaches; 0 has one as well.
    const reached = greaterEqual(numbers, tensor1d([0, ...powers.slice(1)], 'int32'));
    const length = sum(cast(reached, 'int32'), 2, true);
    // How many digits follow the one in a slot; negative after the last.
    const slots = tensor1d([...powers.keys()], 'int32');
    const place = sub(sub(leftPad ? whole(maxDigits) : length, whole(1)), slots);
    const real = logicalAnd(greaterEqual(place, whole(0)), less(place, length));
    const power = gather(tensor1d(powers, 'int32'), maximum(place, whole(0)) as Tensor & { dtype: 'int32' });
    const digit = where(real, mod(floorDiv(numbers, power), whole(base)), whole(padValue));
    const flat = (x: Tensor): Tensor => reshape(cast(x, 'int32'), [-1, axes * maxDigits]);
    return { digits: flat(digit), mask: flat(real) };
  });
}

export interface DigitMaskOptions {
  /** Default `'causal'`. */
  readonly direction?: 'causal' | 'bidirectional';
  /** Whether padding is hidden. Default false. */
  readonly maskPadding?: boolean;
  /** Whether one more token follows the digits, which all of its direction may see. Default true. */
  readonly summaryToken?: boolean;
}

/**
 * Which digits see which: 1 where the query, a row, may attend to the key.
 * @param mask that of `positionDigits`, `[seq, digits]`. @returns float32 `[seq, length, length]`.
 * @throws ConfigError for another direction, ShapeError for a mask of another rank.
 */
export function digitAttentionMask(mask: Tensor, options: DigitMaskOptions = {}): Tensor {
  const { direction = 'causal', maskPadding = false, summaryToken = true } = options;
  checkChoice('digitAttentionMask', 'direction', direction, ['causal', 'bidirectional']);
  if (mask.rank !== 2) throw new ShapeError(`digitAttentionMask takes a mask [seq, digits], not [${mask.shape}].`);
  const [seq, digits] = mask.shape as [number, number];
  const length = digits + Number(summaryToken);
  return tidy(() => {
    const all: Tensor = ones([seq, length, length]);
    const seen = direction === 'causal' ? tril(all) : all;
    if (!maskPadding) return seen;
    const keys = cast(mask, 'float32');
    const shown = summaryToken ? concat([keys, ones([seq, 1])], 1) : keys;
    return mul(seen, reshape(shown, [seq, 1, length]));
  });
}

/**
 * The positions of a box, the last axis fastest: `[[0, 0], [0, 1], …]` for `[height, width]`, moved by `origin`.
 * @throws ConfigError unless extents are whole numbers from 1, and positions at most 2^24.
 */
export function positionGrid(extents: readonly number[], origin: readonly number[] = []): number[][] {
  return checkGrid('positionGrid', 'extents', extents).reduce<number[][]>(
    (rows, extent, axis) =>
      rows.flatMap((row) => Array.from({ length: extent }, (_, i) => [...row, i + (origin[axis] ?? 0)])),
    [[]],
  );
}

/** @throws ConfigError unless numbers of so many digits fit into int32. */
export function checkDigits(owner: string, options: PositionDigitsOptions): void {
  const { maxDigits, base = 10, padValue = 0 } = checkOptions(owner, options);
  checkInteger(owner, 'maxDigits', maxDigits);
  checkInteger(owner, 'base', base, 2, 36);
  checkNumber(`${owner}: padValue`, padValue, { integer: true });
  if (base ** (maxDigits - 1) >= 2 ** 31) {
    throw new ConfigError(`${owner}: maxDigits is ${maxDigits}; in base ${base} positions (int32) have fewer digits.`);
  }
}

/** The coordinates, row by row, on the host. @throws as `positionDigits`. */
export function checkPlaces(owner: string, positions: Tensor, options: PositionDigitsOptions): ArrayLike<number> {
  const { maxDigits, base = 10, axes = positions?.shape?.[1] ?? 1 } = options;
  checkPositions(owner, positions, axes);
  if (positions.size === 0) throw new ShapeError(`${owner}: positions are [${positions.shape}]; give at least one.`);
  const values = wholePositions(owner, positions);
  for (let i = 0; i < values.length; i++) {
    if (values[i] < base ** maxDigits) continue;
    throw new ConfigError(
      `${owner}: coordinate ${values[i]} (index ${i}) must be from 0 to ${base ** maxDigits - 1}, the largest of ` +
        `${maxDigits} digits (maxDigits).`,
    );
  }
  return values;
}

/**
 * Coordinates that have been looked at, as a tensor of their own: positions that go to a GPU could not be read there again at
 * once.
 */
export function placesOf(values: ArrayLike<number>, shape: number[]): Tensor {
  return tensor(Int32Array.from(values), shape, 'int32');
}
