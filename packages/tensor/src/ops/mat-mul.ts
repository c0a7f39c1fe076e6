import {
  backend_util,
  broadcastTo,
  type Tensor,
  type TensorLike,
  Tensor as TfTensor,
  tensor,
  matMul as tfMatMul,
  tidy,
} from '@tensorflow/tfjs-core';

/**
 * Matrix product of the last two axes; the axes before them are batches and broadcast as in NumPy.
 *
 * tfjs's backends take the batch entries of the smaller operand in turn, which is right only where its batch shape is the
 * end of the other's; anything else (`[2, 1, n, k]` by `[1, 3, k, m]`) gave wrong numbers and is expanded here first.
 */
export function matMul<T extends Tensor>(
  a: Tensor | TensorLike,
  b: Tensor | TensorLike,
  transposeA = false,
  transposeB = false,
): T {
  return tidy(() => {
    const x = a instanceof TfTensor ? a : tensor(a);
    const y = b instanceof TfTensor ? b : tensor(b);
    if (cycles(x.shape, y.shape) || cycles(y.shape, x.shape)) return tfMatMul(x, y, transposeA, transposeB) as T;
    const batch = backend_util.assertAndGetBroadcastShape(x.shape.slice(0, -2), y.shape.slice(0, -2));
    const expand = (t: Tensor): Tensor => broadcastTo(t, [...batch, ...t.shape.slice(-2)]);
    return tfMatMul(expand(x), expand(y), transposeA, transposeB) as T;
  });
}

/** Whether the batch shape of `small`, leading ones aside, ends that of `large`. */
function cycles(small: number[], large: number[]): boolean {
  const first = small.slice(0, -2).findIndex((size) => size !== 1);
  if (first === -1) return true;
  const inner = small.slice(first, -2);
  return (
    inner.length <= large.length - 2 && inner.every((size, i) => size === large[large.length - 2 - inner.length + i])
  );
}
