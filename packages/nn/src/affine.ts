import { add, matMul, reshape, ShapeError, type Tensor } from '@ashlar/tensor';

/**
 * `x W + b` on the last axis, for a weight stored as `[out, in]` or `[in, out]`: one product over all leading axes at
 * once, then the bias.
 */
export function affine(x: Tensor, weight: Tensor, bias: Tensor | undefined, layout: 'out-in' | 'in-out'): Tensor {
  const transposed = layout === 'out-in';
  const [inFeatures, outFeatures] = transposed ? [weight.shape[1], weight.shape[0]] : weight.shape;
  if (x.rank < 1 || x.shape[x.rank - 1] !== inFeatures) {
    throw new ShapeError(`This layer takes [..., ${inFeatures}], not [${x.shape}].`);
  }
  const product = matMul(reshape(x, [-1, inFeatures]), weight, false, transposed);
  return reshape(bias === undefined ? product : add(product, bias), [...x.shape.slice(0, -1), outFeatures]);
}
