import {
  add,
  cast,
  checkChoice,
  checkInteger,
  checkOptions,
  clipByValue,
  concat,
  expandDims,
  floor,
  gatherRows,
  mul,
  noGrad,
  reshape,
  ShapeError,
  split,
  sub,
  type Tensor,
  tensor2d,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { checkGrid } from './positions.ts';

export interface ReadOptions {
  /** Whether -1 and 1 are the centres of the outermost cells, in place of their outer edges. Default false. */
  readonly alignCorners?: boolean;
}

/**
 * Bilinear reads of dense grids: the embedding of a coordinate from a basis field (`grid_sample` of PyTorch with border
 * padding). Differentiable in the field, and in the coordinates between cells.
 *
 * Hierarchically decomposed basis fields are several of them, coarse to fine, read one by one; a triplane is three, read at
 * two coordinates each.
 *
 * Source: Park et al., "DDMI: Domain-agnostic latent diffusion models for synthesizing high-quality implicit neural
 * representations" (ICLR 2024).
 * @param field `[batch, channels, rows, columns]`.
 * @param coordinates `[points, 2]`, or `[batch, points, 2]`: x (along columns), y (along rows), each in [-1, 1]; those
 *   outside read the border.
 * @returns `[batch, points, channels]`.
 * @throws ShapeError if the shapes do not fit.
 */
export function readBasisField(field: Tensor, coordinates: Tensor, options: ReadOptions = {}): Tensor {
  const [batch, channels, rows, columns] = field.shape as [number, number, number, number];
  const points = coordinates.shape[coordinates.rank - 2];
  const fits = coordinates.rank === 2 || (coordinates.rank === 3 && coordinates.shape[0] === batch);
  if (field.rank !== 4 || !fits || coordinates.shape[coordinates.rank - 1] !== 2) {
    throw new ShapeError(
      'readBasisField takes a field [batch, channels, rows, columns] and coordinates [points, 2] or [batch, points, 2], ' +
        `not [${field.shape}] and [${coordinates.shape}].`,
    );
  }
  const { alignCorners = false } = options;
  return tidy(() => {
    const own = coordinates.rank === 2 ? expandDims(coordinates, 0) : coordinates;
    const [x, y] = split(cast(own, 'float32'), 2, 2).map((axis) => reshape(axis, [own.shape[0], points]));
    const cells = (axis: Tensor, size: number): Cells => {
      const scaled = alignCorners ? mul(add(axis, 1), (size - 1) / 2) : sub(mul(add(axis, 1), size / 2), 0.5);
      const place = clipByValue(scaled, 0, size - 1);
      const low = noGrad(() => floor(place));
      return { low, high: noGrad(() => clipByValue(add(low, 1), 0, size - 1)), share: expandDims(sub(place, low), 2) };
    };
    const [column, row] = [cells(x, columns), cells(y, rows)];
    const table = reshape(transpose(field, [0, 2, 3, 1]), [batch * rows * columns, channels]);
    const starts = tensor2d(
      Array.from({ length: batch }, (_, i) => i * rows * columns),
      [batch, 1],
    );
    const at = (r: Tensor, c: Tensor): Tensor =>
      gatherRows(
        table,
        noGrad(() => cast(add(add(mul(r, columns), c), starts), 'int32')),
      );
    const mix = (a: Tensor, b: Tensor, share: Tensor): Tensor => add(a, mul(sub(b, a), share));
    return mix(
      mix(at(row.low, column.low), at(row.low, column.high), column.share),
      mix(at(row.high, column.low), at(row.high, column.high), column.share),
      row.share,
    );
  });
}

/** The cells on both sides of a place along one axis, and how far it is from the lower one. */
interface Cells {
  low: Tensor;
  high: Tensor;
  share: Tensor;
}

/** Basis fields of three planes of space, of one level. */
export interface Triplane {
  readonly xy: Tensor;
  readonly yz: Tensor;
  readonly xz: Tensor;
}

/**
 * The embedding of points in space: reads of the planes xy, yz and xz, added up or side by side.
 * @param points `[points, 3]` or `[batch, points, 3]`, each coordinate in [-1, 1].
 * @param options.combine default `'add'`.
 * @returns `[batch, points, channels]`, or three times as many channels.
 * @throws ShapeError if the shapes do not fit, ConfigError for planes that are missing or another way to combine.
 */
export function readTriplane(
  planes: Triplane,
  points: Tensor,
  options: ReadOptions & { readonly combine?: 'add' | 'concat' } = {},
): Tensor {
  const { combine = 'add' } = options;
  checkChoice('readTriplane', 'combine', combine, ['add', 'concat']);
  const { xy, yz, xz } = checkOptions('readTriplane: planes', planes);
  const of = (field: Tensor | undefined): string => String(field?.shape.slice(0, 2));
  if (xy === undefined || of(yz) !== of(xy) || of(xz) !== of(xy)) {
    throw new ShapeError(
      `readTriplane: planes xy, yz and xz must be of one batch and as many channels, not [${xy?.shape}], [${yz?.shape}] and ` +
        `[${xz?.shape}].`,
    );
  }
  if (points.shape[points.rank - 1] !== 3) {
    throw new ShapeError(`readTriplane: points must be [..., 3], not [${points.shape}].`);
  }
  return tidy(() => {
    const [x, y, z] = split(points, 3, -1);
    const reads = [
      readBasisField(xy, concat([x, y], -1), options),
      readBasisField(yz, concat([y, z], -1), options),
      readBasisField(xz, concat([x, z], -1), options),
    ];
    return combine === 'concat' ? concat(reads, 2) : add(add(reads[0], reads[1]), reads[2]);
  });
}

/** The centres of the pixels of a picture, `[rows columns, 2]`: x and y in [-1, 1], row by row. */
export function pixelCoordinates(rows: number, columns: number): Tensor {
  checkInteger('pixelCoordinates', 'rows', rows);
  checkInteger('pixelCoordinates', 'columns', columns);
  checkGrid('pixelCoordinates', '[rows, columns]', [rows, columns]);
  const centre = (i: number, count: number): number => (2 * i + 1) / count - 1;
  const all = new Float32Array(2 * rows * columns);
  for (let i = 0; i < rows * columns; i++) {
    all[2 * i] = centre(i % columns, columns);
    all[2 * i + 1] = centre(Math.floor(i / columns), rows);
  }
  return tensor2d(all, [rows * columns, 2]);
}
