import { gather, reshape, type Tensor, tidy, util } from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.ts';
import { alongLastAxis, normalizeAxis } from './axis.ts';

/**
 * Picks along `axis` by an index for each place: `out[.., i] = x[.., indices[.., i]]` (`torch.gather`, NumPy's
 * `take_along_axis`).
 * @param indices int32 of `x`'s shape but for its size along `axis`.
 * @param axis default the last.
 * @returns a tensor of `indices`' shape.
 * @throws ShapeError if the shapes do not fit.
 */
export function takeAlongAxis(x: Tensor, indices: Tensor, axis = -1): Tensor {
  const along = normalizeAxis(axis, x.rank, 'takeAlongAxis');
  const others = (shape: number[]): number[] => shape.filter((_, i) => i !== along);
  if (
    indices.dtype !== 'int32' ||
    indices.rank !== x.rank ||
    !util.arraysEqual(others(x.shape), others(indices.shape))
  ) {
    throw new ShapeError(
      `takeAlongAxis needs int32 indices that differ from x's shape [${x.shape}] only in axis ${along}, ` +
        `not ${indices.dtype} [${indices.shape}].`,
    );
  }
  return tidy(() =>
    alongLastAxis(along, [x, indices], ([x, indices]) => {
      const rows = reshape(x, [-1, x.shape[x.rank - 1]]);
      const picks = reshape(indices, [-1, indices.shape[indices.rank - 1]]);
      return reshape(gather(rows, picks as Tensor & { dtype: 'int32' }, 1, 1), indices.shape);
    }),
  );
}
