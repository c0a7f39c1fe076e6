import {
  ConfigError,
  checkInteger,
  checkIntegers,
  checkNumber,
  checkOptions,
  quote,
  type Rng,
  ShapeError,
} from '@ashlar/tensor';
import { positionGrid } from './position-digits.ts';
import { checkGrid, MOST } from './positions.ts';

/** One number for each axis. */
export type Place = readonly number[];

/** Where positions are drawn from: `axes` coordinates, each below `extent`. */
export interface PositionSpace {
  readonly axes: number;
  readonly extent: number;
  /** Default 10. */
  readonly base?: number;
}

export interface ContrastiveBatchOptions {
  /** Default 32. */
  readonly pivots?: number;
  /** Candidates of each pivot. Default 64. */
  readonly candidates?: number;
  /** The share of pivots whose candidates all come from one small window. Default 0.2. */
  readonly windowShare?: number;
  /** The side of that window. Default 256 with one axis, 14 with more. */
  readonly window?: number;
  /** The share of pivots with hard negatives: numbers that a few edits of the pivot's digits lead to. Default 0.3. */
  readonly hardShare?: number;
  /** The part of the candidates of such a pivot that are hard. Default 0.2. */
  readonly hardPart?: number;
}

export interface ContrastiveBatch {
  readonly pivots: Place[];
  /** `[pivots][candidates]`, all different and none the pivot. */
  readonly candidates: Place[][];
  /** Which candidate is nearest. */
  readonly labels: number[];
}

const squaredDistance = (a: Place, b: Place): number => a.reduce((sum, x, axis) => sum + (x - b[axis]) ** 2, 0);

/**
 * The index of the candidate with the smallest Euclidean distance to the pivot, the first of equals.
 * @throws ShapeError without candidates, or if one has other axes.
 */
export function nearestCandidate(pivot: Place, candidates: readonly Place[]): number {
  if (candidates.length === 0 || candidates.some(({ length }) => length !== pivot.length)) {
    throw new ShapeError(`nearestCandidate takes a pivot and at least one candidate, all of ${pivot.length} axes.`);
  }
  const distances = candidates.map((candidate) => squaredDistance(pivot, candidate));
  return distances.indexOf(Math.min(...distances));
}

/**
 * Pivots with candidates for `contrastivePositionLoss`: pivots are drawn evenly, and so are candidates but for those of
 * `windowShare` and `hardShare`. A hard negative is farther away than the nearest of the others. Doubles give way to evenly
 * drawn ones.
 * @throws ConfigError for an option out of range, or more candidates than positions.
 *
 * Source: SeqPE (2025, arXiv 2506.13277).
 */
export function contrastiveBatch(space: PositionSpace, options: ContrastiveBatchOptions, rng: Rng): ContrastiveBatch {
  const {
    pivots: count,
    candidates: each,
    windowShare,
    window,
    hardShare,
    hardPart,
  } = checkContrastive(space, options);
  const pivots: Place[] = [];
  const candidates: Place[][] = [];
  for (let i = 0; i < count; i++) {
    const pivot = drawPlace(space, rng);
    const [kind] = rng.uniformArray(1);
    const even = distinct(each, [pivot], () => drawPlace(space, rng));
    let first: Place[] = [];
    if (kind < windowShare) {
      const corner = pivot.map(() => rng.integer(0, Math.max(space.extent - window, 0) + 1));
      const side = Math.min(window, space.extent);
      const inside = side ** space.axes - 1;
      first = distinct(Math.min(each, inside), [pivot], () => corner.map((from) => from + rng.integer(0, side)));
    } else if (kind < windowShare + hardShare) {
      const hard = Math.floor(each * hardPart);
      const closest = Math.min(...even.slice(0, each - hard).map((place) => squaredDistance(pivot, place)));
      const edited = Array.from({ length: hard }, () => editDigits(pivot, space, rng));
      first = edited.filter((place) => squaredDistance(pivot, place) > closest);
    }
    const own = unique([pivot, ...first, ...even]).slice(1, each + 1);
    pivots.push(pivot);
    candidates.push(own);
  }
  return { pivots, candidates, labels: pivots.map((pivot, i) => nearestCandidate(pivot, candidates[i])) };
}

/** The options with their defaults. @throws ConfigError for one out of range. */
export function checkContrastive(
  space: PositionSpace,
  options: ContrastiveBatchOptions,
): Required<ContrastiveBatchOptions> {
  const owner = 'contrastiveBatch';
  checkSpace(owner, space);
  checkOptions(owner, options);
  const { pivots = 32, candidates = 64, windowShare = 0.2, hardShare = 0.3, hardPart = 0.2 } = options;
  const { window = space.axes === 1 ? 256 : 14 } = options;
  for (const [name, value] of Object.entries({ pivots, candidates })) checkInteger(owner, name, value);
  checkGrid(owner, '[pivots, candidates]', [pivots, candidates]);
  checkInteger(owner, 'window', window, 2);
  const shares = { windowShare, hardShare, hardPart, 'windowShare + hardShare': windowShare + hardShare };
  for (const [name, value] of Object.entries(shares)) checkNumber(`${owner}: ${name}`, value, { min: 0, max: 1 });
  const others = space.extent ** space.axes - 1;
  if (candidates > others) {
    throw new ConfigError(`${owner}: candidates is ${candidates}; there are ${others} positions besides the pivot.`);
  }
  return { pivots, candidates, windowShare, window, hardShare, hardPart };
}

export interface TransferBatchOptions {
  /** Shifted windows. Default 32. */
  readonly windows?: number;
  /** Positions of each. Default 64, or all of the window if there are fewer. */
  readonly positions?: number;
}

export interface TransferBatch {
  /** `[windows][positions]`: places in the main window. */
  readonly teacher: Place[][];
  /** The same places in windows that begin outside of it. */
  readonly student: Place[][];
}

/**
 * For `positionTransferLoss`: random places of the main window, `window` from the origin, and of shifted ones that begin
 * outside of it and end inside the space.
 * @throws ConfigError for an option out of range, or a window that leaves no room for another.
 *
 * Source: SeqPE (2025, arXiv 2506.13277).
 */
export function transferBatch(
  space: PositionSpace,
  window: Place,
  options: TransferBatchOptions,
  rng: Rng,
): TransferBatch {
  const { windows, positions } = checkTransfer(space, window, options);
  const grid = positionGrid(window);
  const teacher: Place[][] = [];
  const student: Place[][] = [];
  for (let i = 0; i < windows; i++) {
    let start = drawStart(space, window, rng);
    while (start.every((from, axis) => from < window[axis])) start = drawStart(space, window, rng);
    const chosen = Array.from(rng.choice(grid.length, positions, { replace: false }), (index) => grid[index]);
    teacher.push(chosen);
    student.push(chosen.map((place) => place.map((x, axis) => x + start[axis])));
  }
  return { teacher, student };
}

/** The options with their defaults. @throws ConfigError for one out of range. */
export function checkTransfer(
  space: PositionSpace,
  window: Place,
  options: TransferBatchOptions,
): Required<TransferBatchOptions> {
  const owner = 'transferBatch';
  checkWindow(owner, space, window);
  const size = checkGrid(owner, 'window', window).reduce((product, side) => product * side, 1);
  const { windows = 32, positions = Math.min(64, size) } = checkOptions(owner, options);
  for (const [name, value] of Object.entries({ windows, positions })) checkInteger(owner, name, value);
  checkGrid(owner, '[windows, positions]', [windows, positions]);
  if (positions > size) {
    throw new ConfigError(`${owner}: positions is ${positions}; the window, [${window}], has ${size}.`);
  }
  if (window.every((side) => space.extent < 2 * side)) {
    throw new ConfigError(
      `${owner}: window is [${window}]; no other begins outside of it where coordinates are below ${space.extent} (maxPosition).`,
    );
  }
  return { windows, positions };
}

/** @throws ConfigError unless it has axes, an extent and a base that there are digits for. */
function checkSpace(owner: string, space: PositionSpace): void {
  const { axes, extent, base = 10 } = checkOptions(`${owner}: space`, space);
  for (const [name, value] of Object.entries({ axes, extent })) checkInteger(owner, name, value);
  checkInteger(owner, 'base', base, 2, 36);
}

/** @throws ConfigError unless the window has a side for each axis and lies in the space. */
export function checkWindow(owner: string, space: PositionSpace, window: Place): void {
  checkSpace(owner, space);
  const { axes, extent } = space;
  if (!Array.isArray(window) || window.length !== axes) {
    throw new ConfigError(`${owner}: window is ${quote(window)}; it must have a side for each of the ${axes} axes.`);
  }
  for (const side of checkIntegers(owner, 'window', window)) {
    if (side <= extent) continue;
    throw new ConfigError(
      `${owner}: window is [${window}]; coordinates are below ${extent}: shorten it or raise maxPosition.`,
    );
  }
}

/** At most `count` different starts of windows that lie in the space, for shifts of the main window. */
export function windowStarts(space: PositionSpace, window: Place, count: number, rng: Rng): Place[] {
  checkInteger('windowStarts', 'count', count, 1, MOST);
  checkWindow('windowStarts', space, window);
  const all = window.reduce((product, side) => product * (space.extent - side + 1), 1);
  return distinct(Math.min(count, all), [], () => drawStart(space, window, rng));
}

const drawPlace = ({ axes, extent }: PositionSpace, rng: Rng): number[] =>
  Array.from({ length: axes }, () => rng.integer(0, extent));

const drawStart = ({ extent }: PositionSpace, window: Place, rng: Rng): number[] =>
  window.map((side) => rng.integer(0, extent - side + 1));

function unique(places: readonly Place[]): Place[] {
  return [...new Map(places.map((place) => [String(place), place])).values()];
}

/** `count` different places, none of them `taken`. */
function distinct(count: number, taken: readonly Place[], draw: () => Place): Place[] {
  const seen = new Set(taken.map(String));
  const places: Place[] = [];
  while (places.length < count) {
    const place = draw();
    if (seen.has(String(place))) continue;
    seen.add(String(place));
    places.push(place);
  }
  return places;
}

/** One to three digits of a place inserted, swapped, replaced or deleted; an edit that leads out of the space is not made. */
function editDigits(place: Place, { extent, base = 10 }: PositionSpace, rng: Rng): Place {
  const edited = [...place];
  for (let edits = rng.integer(1, 4); edits > 0; edits--) {
    const axis = rng.integer(0, place.length);
    const digits = [...edited[axis].toString(base)];
    const at = rng.integer(0, digits.length);
    const other = rng.integer(0, digits.length);
    const digit = rng.integer(0, base).toString(base);
    const change = rng.integer(0, 4);
    if (change === 0) digits.splice(at, 0, digit);
    else if (change === 1) [digits[at], digits[other]] = [digits[other], digits[at]];
    else if (change === 2) digits[at] = digit;
    else digits.splice(at, 1);
    const next = Number.parseInt(digits.join('') || '0', base);
    if (next < extent) edited[axis] = next;
  }
  return edited;
}
