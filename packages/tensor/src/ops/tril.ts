import { type Tensor, type Tensor2D, tensor2d, tidy, where, zerosLike } from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.ts';

/** Bool `[rows, columns]`: true where `column <= row + diagonal` (with `diagonal` 0: what a causal query may see). */
export function trilMask(rows: number, columns: number, diagonal = 0): Tensor2D {
  return mask(rows, columns, (row, column) => column <= row + diagonal);
}

/** Bool `[rows, columns]`: true where `column >= row + diagonal`. */
export function triuMask(rows: number, columns: number, diagonal = 0): Tensor2D {
  return mask(rows, columns, (row, column) => column >= row + diagonal);
}

/** The lower triangle of the last two axes, zeros above (`torch.tril`). */
export function tril<T extends Tensor>(x: T, diagonal = 0): T {
  return keepWhere(x, diagonal, trilMask);
}

/** The upper triangle of the last two axes, zeros below (`torch.triu`). */
export function triu<T extends Tensor>(x: T, diagonal = 0): T {
  return keepWhere(x, diagonal, triuMask);
}

function keepWhere<T extends Tensor>(x: T, diagonal: number, of: typeof trilMask): T {
  if (x.rank < 2) throw new ShapeError(`A triangle needs a matrix or a batch of them, not shape [${x.shape}].`);
  return tidy(() => where(of(x.shape[x.rank - 2], x.shape[x.rank - 1], diagonal), x, zerosLike(x)) as T);
}

function mask(rows: number, columns: number, keep: (row: number, column: number) => boolean): Tensor2D {
  const values = Uint8Array.from({ length: rows * columns }, (_, i) =>
    keep(Math.floor(i / columns), i % columns) ? 1 : 0,
  );
  return tensor2d(values, [rows, columns], 'bool');
}
