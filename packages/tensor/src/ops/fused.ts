import {
  add,
  conv2d,
  depthwiseConv2d,
  elu,
  engine,
  leakyRelu,
  prelu,
  relu,
  relu6,
  sigmoid,
  type Tensor,
  type Tensor3D,
  type Tensor4D,
  fused as tfFused,
  tidy,
} from '@tensorflow/tfjs-core';
import { matMul } from './mat-mul.ts';

type MatMulOptions = Parameters<typeof tfFused.matMul>[0];
type Conv2dOptions<T extends Tensor3D | Tensor4D> = Parameters<typeof tfFused.conv2d<T>>[0];
type DepthwiseOptions<T extends Tensor3D | Tensor4D> = Parameters<typeof tfFused.depthwiseConv2d<T>>[0];
type Epilogue = Pick<MatMulOptions, 'bias' | 'activation' | 'preluActivationWeights' | 'leakyreluAlpha'>;

/** What the fused kernels do to their product. */
function finish(
  product: Tensor,
  { bias, activation = 'linear', preluActivationWeights, leakyreluAlpha }: Epilogue,
): Tensor {
  const y = bias === undefined ? product : add(product, bias);
  if (activation === 'linear') return y;
  if (activation === 'prelu') return prelu(y, preluActivationWeights as Tensor);
  if (activation === 'leakyrelu') return leakyRelu(y, leakyreluAlpha);
  return { relu, relu6, elu, sigmoid }[activation](y);
}

function differentiating(): boolean {
  return (engine() as unknown as { state: { gradientDepth: number } }).state.gradientDepth > 0;
}

/**
 * A product, its bias and its activation in one kernel. While a gradient is taken they are kernels of their own, each
 * with gradients of every order: tfjs's fused operations cannot differentiate dilated and broadcast products. Options as
 * in tfjs.
 */
export const fused: Pick<typeof tfFused, 'matMul' | 'conv2d' | 'depthwiseConv2d'> = {
  matMul(options: MatMulOptions): Tensor {
    if (!differentiating()) return tfFused.matMul(options);
    const { a, b, transposeA, transposeB } = options;
    return tidy(() => finish(matMul(a, b, transposeA, transposeB), options));
  },
  conv2d<T extends Tensor3D | Tensor4D>(options: Conv2dOptions<T>): T {
    if (!differentiating()) return tfFused.conv2d<T>(options);
    const { x, filter, strides, pad, dataFormat, dilations, dimRoundingMode } = options;
    return tidy(() => finish(conv2d<T>(x, filter, strides, pad, dataFormat, dilations, dimRoundingMode), options) as T);
  },
  depthwiseConv2d<T extends Tensor3D | Tensor4D>(options: DepthwiseOptions<T>): T {
    if (!differentiating()) return tfFused.depthwiseConv2d<T>(options);
    const { x, filter, strides, pad, dataFormat, dilations, dimRoundingMode } = options;
    return tidy(
      () => finish(depthwiseConv2d<T>(x, filter, strides, pad, dataFormat, dilations, dimRoundingMode), options) as T,
    );
  },
};
