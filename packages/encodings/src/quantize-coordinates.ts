import {
  add,
  ConfigError,
  cast,
  checkInteger,
  checkOptions,
  div,
  floor,
  maximum,
  minimum,
  mul,
  noGrad,
  ShapeError,
  sub,
  type Tensor,
  tensor1d,
} from '@ashlar/tensor';

export interface CoordinateGrid {
  /** The lower corner of the box: a number, or one for each axis. */
  readonly min: number | readonly number[];
  /** The upper corner. */
  readonly max: number | readonly number[];
  /** Grid points along each axis, at least 2; there is one cell less. */
  readonly resolution: number | readonly number[];
  /** Whether points outside are moved into the outermost cells. Default false: the grid goes on beyond the box. */
  readonly clamp?: boolean;
}

/**
 * Coordinates snapped to the centres of the cells of a fine grid: with `h = (max - min) / (resolution - 1)` and
 * `cell = floor((p - min) / (max - min) (resolution - 1))` the point becomes `min + (cell + 1/2) h`. A constant to
 * differentiation: derive a field with respect to the quantized point, not through it.
 *
 * Finer than float32 can tell cells apart (`resolution` near 2^24) nothing is gained. Cells should stay below half a period
 * of the highest frequency that encodes the point: `h < pi / 2^(L - 1)` for `harmonicEmbedding` with `L` octaves.
 *
 * Source: Jiang et al., "Coordinate quantized neural implicit representations for multi-view reconstruction" (2023).
 * @param points `[…, axes]`.
 * @returns quantized points and their cells, int32, both of the shape of `points`.
 * @throws ConfigError for a box or resolution out of range, ShapeError for another number of axes.
 */
export function quantizeCoordinates(points: Tensor, grid: CoordinateGrid): { quantized: Tensor; cell: Tensor } {
  checkOptions('quantizeCoordinates', grid);
  const axes = points.shape[points.rank - 1] as number | undefined;
  if (axes === undefined) throw new ShapeError('quantizeCoordinates: points must be [..., axes], not a scalar.');
  const perAxis = (name: 'min' | 'max' | 'resolution'): readonly number[] => {
    const value = grid[name];
    const values = typeof value === 'number' ? Array<number>(axes).fill(value) : value;
    if (Array.isArray(values) && values.length === axes && values.every(Number.isFinite)) return values;
    throw new ConfigError(
      `quantizeCoordinates: ${name} is [${values}]; give a finite number, or one for each of ${axes} axes.`,
    );
  };
  const [low, high, resolution] = [perAxis('min'), perAxis('max'), perAxis('resolution')];
  for (const [axis, points] of resolution.entries()) {
    checkInteger('quantizeCoordinates', 'resolution', points, 2);
    if (high[axis] <= low[axis]) {
      throw new ConfigError(`quantizeCoordinates: max is ${high[axis]}; it must be above min, ${low[axis]}.`);
    }
  }
  const row = (of: (axis: number) => number): Tensor => tensor1d(Float32Array.from({ length: axes }, (_, i) => of(i)));
  return noGrad(() => {
    const share = div(
      sub(
        cast(points, 'float32'),
        row((i) => low[i]),
      ),
      row((i) => high[i] - low[i]),
    );
    const place = floor(
      mul(
        share,
        row((i) => resolution[i] - 1),
      ),
    );
    const cell = grid.clamp
      ? minimum(
          maximum(place, 0),
          row((i) => resolution[i] - 2),
        )
      : place;
    const width = row((i) => (high[i] - low[i]) / (resolution[i] - 1));
    return {
      quantized: add(
        mul(add(cell, 0.5), width),
        row((i) => low[i]),
      ),
      cell: cast(cell, 'int32'),
    };
  });
}

/** In how many different cells points `[points, axes]` lie: how many different inputs a field on quantized points sees. */
export async function distinctCells(points: Tensor, grid: CoordinateGrid): Promise<number> {
  if (points.rank !== 2) throw new ShapeError(`distinctCells: points must be [points, axes], not [${points.shape}].`);
  const { quantized, cell } = quantizeCoordinates(points, grid);
  const indices = await cell.data<'int32'>();
  quantized.dispose();
  cell.dispose();
  const axes = points.shape[1] as number;
  return new Set(Array.from({ length: points.shape[0] }, (_, i) => indices.subarray(i * axes, (i + 1) * axes).join()))
    .size;
}
