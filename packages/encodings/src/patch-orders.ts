import { ConfigError, checkInteger } from '@ashlar/tensor';
import { checkGrid } from './positions.ts';

/** Row and column of a cell. */
export type Cell = readonly [row: number, column: number];

/**
 * The cells of a grid of any size along the generalized Hilbert ("Gilbert") curve: steps go to neighbours, but for one
 * diagonal step where the longer side is odd and the shorter one even and at least 4.
 *
 * Source: Červený, [gilbert](https://github.com/jakubcerveny/gilbert); as the order of patches: LOOPE (2025, arXiv 2504.14386).
 */
export function gilbertPath(height: number, width: number): Cell[] {
  checkSides('gilbertPath', height, width);
  const path: Cell[] = [];
  const visit = (x: number, y: number, along: Vector, across: Vector): void => {
    const [length, breadth] = [extent(along), extent(across)];
    const [step, side] = [unit(along), unit(across)];
    if (breadth === 1 || length === 1) {
      const [dx, dy] = breadth === 1 ? step : side;
      for (let i = 0; i < Math.max(length, breadth); i++) path.push([y + i * dy, x + i * dx]);
      return;
    }
    let a = half(along);
    let b = half(across);
    if (2 * length > 3 * breadth) {
      if (extent(a) % 2 === 1 && length > 2) a = plus(a, step);
      visit(x, y, a, across);
      visit(x + a[0], y + a[1], minus(along, a), across);
      return;
    }
    if (extent(b) % 2 === 1 && breadth > 2) b = plus(b, side);
    visit(x, y, b, a);
    visit(x + b[0], y + b[1], along, minus(across, b));
    const [toX, toY] = plus(minus(along, step), minus(b, side));
    visit(x + toX, y + toY, minus([0, 0], b), minus([0, 0], minus(along, a)));
  };
  if (width >= height) visit(0, 0, [width, 0], [0, height]);
  else visit(0, 0, [0, height], [width, 0]);
  return path;
}

type Vector = readonly [x: number, y: number];
const extent = ([x, y]: Vector): number => Math.abs(x + y);
const unit = ([x, y]: Vector): Vector => [Math.sign(x), Math.sign(y)];
const plus = (a: Vector, b: Vector): Vector => [a[0] + b[0], a[1] + b[1]];
const minus = (a: Vector, b: Vector): Vector => [a[0] - b[0], a[1] - b[1]];
/** Rounds down, negative numbers as well: else the curve breaks. */
const half = ([x, y]: Vector): Vector => [Math.floor(x / 2), Math.floor(y / 2)];

/** When each cell of the grid is visited, `[height width]` row by row, along the Gilbert curve. */
export function gilbertOrder(height: number, width: number): Int32Array {
  return orderOf(gilbertPath(height, width), width);
}

/**
 * When each cell is visited along the Hilbert curve, `[height width]` row by row.
 * @throws ConfigError unless the grid is square with a power of two for its side; see `gilbertOrder` for others.
 */
export function hilbertOrder(height: number, width: number): Int32Array {
  checkSides('hilbertOrder', height, width);
  if (height !== width || !Number.isInteger(Math.log2(width))) {
    throw new ConfigError(
      `hilbertOrder: the grid is ${height} x ${width}; it must be square with a power of two for its side: use gilbertOrder.`,
    );
  }
  const place = (row: number, column: number): number => {
    let [x, y, index] = [column, row, 0];
    for (let side = width / 2; side >= 1; side /= 2) {
      const [right, down] = [(x & side) > 0, (y & side) > 0];
      index += side * side * ((right ? 3 : 0) ^ (down ? 1 : 0));
      // A quadrant of the upper half is turned.
      if (!down) {
        if (right) [x, y] = [width - 1 - x, width - 1 - y];
        [x, y] = [y, x];
      }
    }
    return index;
  };
  return Int32Array.from({ length: height * width }, (_, i) => place(Math.floor(i / width), i % width));
}

/** Row by row: what LOOPE's authors call zigzag. */
export function rasterOrder(height: number, width: number): Int32Array {
  checkSides('rasterOrder', height, width);
  return Int32Array.from({ length: height * width }, (_, i) => i);
}

/** Along the diagonals, up and down in turns, as JPEG orders its coefficients. */
export function zigzagOrder(height: number, width: number): Int32Array {
  checkSides('zigzagOrder', height, width);
  const path: Cell[] = [];
  for (let diagonal = 0; diagonal < height + width - 1; diagonal++) {
    const first = Math.max(0, diagonal - width + 1);
    const cells = Array.from(
      { length: Math.min(diagonal, height - 1) - first + 1 },
      (_, i): Cell => [first + i, diagonal - first - i],
    );
    path.push(...(diagonal % 2 === 0 ? cells.reverse() : cells));
  }
  return orderOf(path, width);
}

function orderOf(path: readonly Cell[], width: number): Int32Array {
  const order = new Int32Array(path.length);
  for (const [index, [row, column]] of path.entries()) order[row * width + column] = index;
  return order;
}

function checkSides(owner: string, height: number, width: number): void {
  checkInteger(owner, 'height', height);
  checkInteger(owner, 'width', width);
  checkGrid(owner, '[height, width]', [height, width]);
}
