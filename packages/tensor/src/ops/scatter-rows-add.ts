import { expandDims, reshape, scatterND, type Tensor, type Tensor2D, tidy, util } from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.ts';

/**
 * Adds each row of `values` to row `ids[i]` of a zero table: `out[r] = sum of values[i] with ids[i] = r`. The adjoint of
 * `gatherRows`; its time does not grow with the number of rows as that of tfjs's `unsortedSegmentSum` does on some backends.
 * @param values `[...ids.shape, dim]`.
 * @param ids int32, each in `[0, rows)`.
 * @returns `[rows, dim]`.
 * @throws ShapeError if the shapes do not fit.
 */
export function scatterRowsAdd(values: Tensor, ids: Tensor, rows: number): Tensor2D {
  if (ids.dtype !== 'int32' || !util.arraysEqual(values.shape.slice(0, -1), ids.shape)) {
    throw new ShapeError(
      `scatterRowsAdd needs values [...ids, dim] and int32 ids, not [${values.shape}] and ${ids.dtype} [${ids.shape}].`,
    );
  }
  const dim = values.shape[values.rank - 1];
  return tidy(
    () => scatterND(expandDims(reshape(ids, [-1]), 1), reshape(values, [ids.size, dim]), [rows, dim]) as Tensor2D,
  );
}
