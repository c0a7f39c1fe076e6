import { gather, type Tensor } from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.ts';

/**
 * Embedding lookup: row `ids[i]` of `table`. Its gradient is a scatter-add (`scatterRowsAdd`).
 * @param table `[rows, dim]`.
 * @param ids int32 of any shape, each in `[0, rows)`.
 * @returns `[...ids.shape, dim]`.
 * @throws ShapeError if `table` is not a matrix or `ids` not int32.
 */
export function gatherRows(table: Tensor, ids: Tensor): Tensor {
  if (table.rank !== 2 || ids.dtype !== 'int32') {
    throw new ShapeError(
      `gatherRows needs a [rows, dim] table and int32 ids, not [${table.shape}] and ${ids.dtype} [${ids.shape}].`,
    );
  }
  return gather(table, ids as Tensor & { dtype: 'int32' });
}
