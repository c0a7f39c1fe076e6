import {
  ConfigError,
  checkInteger,
  type Rng,
  ShapeError,
  type Tensor,
  type Tensor2D,
  type Tensor4D,
  tensor2d,
  tensor4d,
} from '@ashlar/tensor';

/** The red, the green and the blue cell, each `[x, y]`: column and row. */
export type ThreeCells = readonly [red: Point, green: Point, blue: Point];
type Point = readonly [x: number, y: number];

/** What is asked of three cells, as six yes or no. */
export const THREE_CELL_TASKS: Readonly<Record<string, readonly number[]>> = {
  distance: [0, 1],
  orientation: [2],
  area: [3, 4],
  'vector sum': [5],
};

/**
 * The six labels of three cells on a grid: green or blue farther from red (two labels, none where equal); the turn from green
 * to blue as seen from red; the trapezium under red and green or red and blue larger (two); the sum of all beyond the grid on
 * both axes.
 *
 * Source: the Three-Cell Experiment of LOOPE (2025, arXiv 2504.14386).
 * @throws ConfigError unless the cells are three of the grid.
 */
export function threeCellLabels(cells: ThreeCells, grid: number): number[] {
  const inside = cells.flat().every((place) => Number.isInteger(place) && place >= 0 && place < grid);
  if (!inside || new Set(cells.map(String)).size < 3) {
    throw new ConfigError(
      `threeCellLabels: the cells are ${JSON.stringify(cells)}; they must be three different ones, [x, y] from 0 to ${grid - 1}.`,
    );
  }
  return labelsOf(cells, grid);
}

function labelsOf([red, green, blue]: ThreeCells, grid: number): number[] {
  const squared = (a: Point, b: Point): number => (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2;
  const area = (a: Point): number => Math.abs((red[1] + a[1]) * (a[0] - red[0])) / 2;
  const [toGreen, toBlue] = [squared(red, green), squared(red, blue)];
  const [underGreen, underBlue] = [area(green), area(blue)];
  const beyond = [0, 1].every((axis) => red[axis] + green[axis] + blue[axis] > grid - 1);
  const answers = [
    toGreen > toBlue,
    toBlue > toGreen,
    turn(red, green, blue) > 0,
    underGreen > underBlue,
    underBlue > underGreen,
    beyond,
  ];
  return answers.map(Number);
}

/** Twice the oriented area of the triangle; 0 where the cells are on one line. */
function turn(red: Point, green: Point, blue: Point): number {
  return (green[0] - red[0]) * (blue[1] - red[1]) - (green[1] - red[1]) * (blue[0] - red[0]);
}

export interface ThreeCellOptions {
  /** Cells on a side, at least 3. Default 14. */
  readonly grid?: number;
  /** Pixels on a side of a cell. Default 16. */
  readonly patchSize?: number;
  /** Pictures. */
  readonly count: number;
}

export interface ThreeCellDataset {
  /** `[count, 3, grid patchSize, grid patchSize]`: black with a red, a green and a blue cell. */
  readonly images: Tensor4D;
  /** `[count, 6]`, see `threeCellLabels`. */
  readonly labels: Tensor2D;
  readonly cells: readonly ThreeCells[];
}

/**
 * Pictures of three cells that a network without positions cannot read. Each of the nine outcomes of comparing distances and
 * areas (more, less, equal) is as likely as any other; cells on one line do not come. The caller disposes of images and labels.
 * @throws ConfigError for an option out of range.
 */
export function threeCellDataset(options: ThreeCellOptions, rng: Rng): ThreeCellDataset {
  const { grid = 14, patchSize = 16, count } = options;
  checkInteger('threeCellDataset', 'grid', grid, 3);
  checkInteger('threeCellDataset', 'patchSize', patchSize);
  checkInteger('threeCellDataset', 'count', count);
  const cells = Array.from({ length: count }, () => draw(grid, rng));
  const side = grid * patchSize;
  const images = new Float32Array(count * 3 * side * side);
  for (const [i, three] of cells.entries()) {
    for (const [channel, [x, y]] of three.entries()) {
      for (let row = 0; row < patchSize; row++) {
        const from = ((i * 3 + channel) * side + y * patchSize + row) * side + x * patchSize;
        images.fill(1, from, from + patchSize);
      }
    }
  }
  return {
    images: tensor4d(images, [count, 3, side, side]),
    labels: tensor2d(cells.map((three) => labelsOf(three, grid))),
    cells,
  };
}

/** Which of two is more, of distances and of areas: one of nine, all of which a grid of 3 has. */
function outcomeOf(cells: ThreeCells, grid: number): number {
  const [greenFarther, blueFarther, , greenLarger, blueLarger] = labelsOf(cells, grid);
  return 3 * (1 + greenFarther - blueFarther) + (1 + greenLarger - blueLarger);
}

function draw(grid: number, rng: Rng): ThreeCells {
  const wanted = rng.integer(0, 9);
  const point = (): Point => [rng.integer(0, grid), rng.integer(0, grid)];
  for (;;) {
    const cells: ThreeCells = [point(), point(), point()];
    if (turn(...cells) !== 0 && outcomeOf(cells, grid) === wanted) return cells;
  }
}

/**
 * The share of right answers to each task, and the mean of the four.
 * @param logits `[count, 6]`: above 0 is yes. @param labels as `threeCellDataset` gives them.
 */
export async function threeCellScores(logits: Tensor, labels: Tensor): Promise<Record<string, number>> {
  if (logits.rank !== 2 || logits.shape[1] !== 6 || String(logits.shape) !== String(labels.shape)) {
    throw new ShapeError(
      `threeCellScores takes logits and labels [count, 6], not [${logits.shape}] and [${labels.shape}].`,
    );
  }
  if (logits.shape[0] === 0) throw new ConfigError('threeCellScores: there is no answer to score.');
  const [given, right] = await Promise.all([logits.data<'float32'>(), labels.data<'float32'>()]);
  const share = (columns: readonly number[]): number => {
    const places = Array.from(given.keys()).filter((i) => columns.includes(i % 6));
    return places.filter((i) => Number(given[i] > 0) === right[i]).length / places.length;
  };
  const scores = Object.entries(THREE_CELL_TASKS).map(([task, columns]) => [task, share(columns)] as const);
  const average = scores.reduce((sum, [, score]) => sum + score, 0) / scores.length;
  return { ...Object.fromEntries(scores), average };
}
