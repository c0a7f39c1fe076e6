import { add, concat, cumsum, div, mul, reshape, ShapeError, slice, sub, type Tensor, tidy } from '@ashlar/tensor';
import { checkWidth, sinusoids } from './sinusoidal.ts';

/**
 * Sinusoidal encoding of images of several sizes in one batch: rows and columns are counted over the valid cells, from 1,
 * and scaled so that the last one is `2 pi`. The first half of the width encodes the column, the second the row, sines and
 * cosines interleaved.
 *
 * Source: Carion et al., "End-to-end object detection with Transformers" (2020, arXiv 2005.12872), with the column first
 * as in CoMER (Zhao and Gao 2022, arXiv 2207.04410).
 * @param mask float32 `[batch, height, width]`, 1 where there is padding.
 * @param dim a multiple of 4.
 * @param options.base default 10000.
 * @returns `[batch, height, width, dim]`.
 * @throws ShapeError for a mask of another rank or a `dim` that is no multiple of 4.
 */
export function maskedSinusoidal2d(mask: Tensor, dim: number, options: { base?: number } = {}): Tensor {
  const { base = 10000 } = options;
  checkWidth('maskedSinusoidal2d', dim, 4, base, 'interleaved');
  if (mask.rank !== 3)
    throw new ShapeError(`maskedSinusoidal2d takes a mask [batch, height, width], not [${mask.shape}].`);
  return tidy(() => {
    const valid = sub(1, mask);
    const tables = [2, 1].map((axis) => {
      const count = cumsum(valid, axis);
      const begin = [0, 0, 0].map((_, i) => (i === axis ? (mask.shape[axis] as number) - 1 : 0));
      const last = slice(count, begin, [-1, -1, -1]);
      const angle = mul(div(count, add(last, 1e-6)), 2 * Math.PI);
      const table = sinusoids(reshape(angle, [-1]), dim / 2, base, 'interleaved');
      return reshape(table, [...mask.shape, dim / 2]);
    });
    return concat(tables, 3);
  });
}
