import { type BatchMatMulAttrs, type GradConfig, matMul, reshape, type Tensor } from '@tensorflow/tfjs-core';
import { sumToShape } from './sum-to-shape.ts';

/** tfjs forgets to sum over broadcast batch axes: the gradient of a `[3, 2]` weight came out as `[batch, 3, 2]`. */
export const batchMatMul: GradConfig = {
  kernelName: 'BatchMatMul',
  inputsToSave: ['a', 'b'],
  gradFunc: (dy, [a, b], attrs) => {
    const { transposeA, transposeB } = attrs as unknown as BatchMatMulAttrs;
    const gradient = dy as Tensor;
    return {
      a: () =>
        sumToShape(
          transposeA ? matMul(b, gradient, transposeB, true) : matMul(gradient, b, false, !transposeB),
          a.shape,
        ),
      b: () => {
        // A weight shared by the whole batch: one product of tall matrices instead of one per batch entry and their sum.
        if (b.rank === 2 && a.rank > 2 && !transposeA) {
          const rows = reshape(a, [-1, a.shape[a.rank - 1]]);
          const dRows = reshape(gradient, [-1, gradient.shape[gradient.rank - 1]]);
          return transposeB ? matMul(dRows, rows, true) : matMul(rows, dRows, true);
        }
        return sumToShape(
          transposeB ? matMul(gradient, a, true, transposeA) : matMul(a, gradient, !transposeA, false),
          b.shape,
        );
      },
    };
  },
};
