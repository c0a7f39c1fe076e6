import { type Rank, type ShapeMap, type Tensor, tensor } from '@tensorflow/tfjs-core';
import { Matrix } from 'ml-matrix';
import { ConfigError, ShapeError } from '../errors.ts';
import type { Rng } from '../rng.ts';
import { orthonormalBasis } from './qr.ts';

/**
 * A random tensor that, flattened to `[shape[0], the rest]`, is a (semi-)orthogonal matrix times `gain` (default 1):
 * orthonormal rows where it is wide, orthonormal columns where it is tall, uniformly distributed. As PyTorch's
 * `orthogonal_`, with other numbers.
 *
 * The result belongs to the caller.
 *
 * Source: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
 * networks" (2014, arXiv 1312.6120); uniform by the positive diagonal of R: Mezzadri (2007, arXiv math-ph/0609050).
 *
 * @throws ShapeError unless `shape` has two or more dimensions, all >= 1; ConfigError where `gain` is not finite.
 */
export function orthogonal<R extends Rank = Rank>(shape: ShapeMap[R], options: { gain?: number; rng: Rng }): Tensor<R> {
  const { gain = 1, rng } = options;
  if (shape.length < 2 || !shape.every((dim) => Number.isInteger(dim) && dim >= 1)) {
    throw new ShapeError(
      `orthogonal: shape is [${shape}]; it must have two or more dimensions, all whole numbers >= 1`,
    );
  }
  if (!Number.isFinite(gain)) throw new ConfigError(`orthogonal: gain is ${gain}; it may be a finite number`);
  const [rows, ...rest] = shape;
  const columns = rest.reduce((product, dim) => product * dim, 1);
  const wide = rows < columns;
  const [long, short] = wide ? [columns, rows] : [rows, columns];
  const tall = orthonormalBasis(Matrix.from1DArray(long, short, rng.normalArray(long * short)));
  const matrix = (wide ? tall.transpose() : tall).mul(gain);
  return tensor<R>(Float32Array.from(matrix.to1DArray()), shape, 'float32');
}
