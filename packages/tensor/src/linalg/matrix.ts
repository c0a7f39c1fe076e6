import { type Tensor, type Tensor2D, tensor2d } from '@tensorflow/tfjs-core';
import { Matrix } from 'ml-matrix';
import { ConfigError, NumericsError, ShapeError } from '../errors.ts';

/** Asymmetry, relative to the largest entry, that is put down to float32 rounding. */
const SYMMETRY_TOLERANCE = 1e-5;

/** The values of a 2-D tensor in float64; `where` (say `svd: a`) opens the error messages. */
export function readMatrix(a: Tensor, where: string): Matrix {
  checkMatrix(a, where);
  return toMatrix(a, where);
}

/** As `readMatrix`, of a square matrix. */
export function readSquare(a: Tensor, where: string): Matrix {
  checkMatrix(a, where);
  if (a.shape[0] !== a.shape[1]) throw new ShapeError(`${where} has shape [${a.shape}]; it must be square, [n, n]`);
  return toMatrix(a, where);
}

/** As `readSquare`, of a symmetric matrix; what rounding left of asymmetry is averaged away. */
export function readSymmetric(a: Tensor, where: string): Matrix {
  const matrix = readSquare(a, where);
  const tolerance = SYMMETRY_TOLERANCE * Math.max(matrix.max(), -matrix.min());
  for (let i = 0; i < matrix.rows; i++) {
    for (let j = 0; j < i; j++) {
      const [below, above] = [matrix.get(i, j), matrix.get(j, i)];
      if (Math.abs(below - above) > tolerance) {
        throw new NumericsError(
          `${where} is not symmetric: entry [${i}, ${j}] is ${below}, [${j}, ${i}] is ${above}. ` +
            'Pass (a + transpose(a)) / 2 if its symmetric part is meant.',
        );
      }
      const mean = (below + above) / 2;
      matrix.set(i, j, mean);
      matrix.set(j, i, mean);
    }
  }
  return matrix;
}

/** The right side `b`, `[m]` or `[m, k]`, of a system with `m` equations, as an `[m, k]` matrix. */
export function readRightSide(b: Tensor, equations: number, where: string): Matrix {
  checkDtype(b, where);
  if ((b.rank !== 1 && b.rank !== 2) || b.shape[0] !== equations || b.size === 0) {
    throw new ShapeError(
      `${where} has shape [${b.shape}]; it must be [${equations}] or [${equations}, k], as a has rows`,
    );
  }
  return toMatrix(b, where);
}

/** A float32 tensor of the matrix. NumericsError where a value does not fit float32. */
export function writeMatrix(matrix: Matrix, where: string): Tensor2D {
  const { rows, columns } = matrix;
  return tensor2d(checkFinite(Float32Array.from(matrix.to1DArray()), where, columns), [rows, columns]);
}

/** Throws ShapeError unless `a` is a 2-D tensor of numbers with at least one row and one column. */
export function checkMatrix(a: Tensor, where: string): void {
  checkDtype(a, where);
  if (a.rank !== 2 || a.size === 0) {
    throw new ShapeError(`${where} has shape [${a.shape}]; it must be a matrix [m, n] with m, n >= 1`);
  }
}

/** Throws NumericsError naming the first entry that is NaN or infinite; `columns` tells how to name it. */
export function checkFinite<T extends ArrayLike<number>>(values: T, where: string, columns: number): T {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      throw new NumericsError(
        `${where} is ${values[i]} at [${Math.floor(i / columns)}, ${i % columns}]; all entries must be finite float32 ` +
          'numbers. Look for an overflow or a division by zero where they were computed.',
      );
    }
  }
  return values;
}

function checkDtype(a: Tensor, where: string): void {
  if (a.dtype === 'complex64' || a.dtype === 'string') {
    throw new ConfigError(`${where} has dtype ${a.dtype}; it may be float32, int32 or bool`);
  }
}

function toMatrix(a: Tensor, where: string): Matrix {
  const [rows, columns = 1] = a.shape;
  return Matrix.from1DArray(rows, columns, checkFinite(a.dataSync(), where, columns));
}
