import {
  add,
  Buffer,
  leakyRelu,
  Module,
  matMul,
  mul,
  Parameter,
  pad,
  type Rng,
  reshape,
  reverse,
  rsqrt,
  ShapeError,
  square,
  sum,
  type Tensor,
  tensor,
  zeros,
} from '@ashlar/tensor';
import { convolve2d } from './conv2d.ts';
import { EqualizedLinear } from './equalized-linear.ts';
import { normal_ } from './init.ts';
import { checkSizes } from './options.ts';

/**
 * A convolution whose input channels are scaled by styles, each output channel brought back to unit weight norm with
 * `demodulate`: `w_{oi} = W_{oi} s_i`, `w_o / sqrt(sum w_o^2 + 1e-8)`. The products are taken on the input and on the output,
 * so that one kernel serves the batch.
 * @param x `[batch, in, height, width]`, `weight` `[out, in, k, k]`, `styles` `[batch, in]`.
 * @param convolve of `x` with `weight`. Default: with `k / 2` zeros around.
 * @returns `[batch, out, height', width']`.
 */
export function modulatedConv2d(
  x: Tensor,
  weight: Tensor,
  styles: Tensor,
  options: { demodulate?: boolean; convolve?: (x: Tensor, weight: Tensor) => Tensor } = {},
): Tensor {
  const { demodulate = true, convolve = (x, weight) => convolve2d(x, weight, { padding: halfOf(weight) }) } = options;
  const y = convolve(mul(x, reshape(styles, [...styles.shape, 1, 1])), weight);
  if (!demodulate) return y;
  const norms = rsqrt(add(matMul(square(styles), sum(square(weight), [2, 3]), false, true), 1e-8));
  return mul(y, reshape(norms, [...norms.shape, 1, 1]));
}

/** `[1, 3, 3, 1]` in both directions, of sum 4: what makes up for the zeros that upsampling puts in. */
const UPSAMPLING_FILTER = [1, 3, 3, 1].map((a) => [1, 3, 3, 1].map((b) => (a * b) / 16));

/** Zeros after every row and every column, `before` rows and columns of zeros in front and `after` behind, filtered. */
function upsampled(x: Tensor, before: number, after: number): Tensor {
  const [batch, channels, height, width] = x.shape as [number, number, number, number];
  const stretched = pad(reshape(x, [batch * channels, height, 1, width, 1]), [
    [0, 0],
    [0, 0],
    [0, 1],
    [0, 0],
    [0, 1],
  ]);
  const planes = pad(reshape(stretched, [batch * channels, 1, 2 * height, 2 * width]), [
    [0, 0],
    [0, 0],
    [before, after],
    [before, after],
  ]);
  const filtered = convolve2d(planes, tensor([[UPSAMPLING_FILTER]]));
  return reshape(filtered, [batch, channels, ...filtered.shape.slice(2)]);
}

export interface SynthesisLayerOptions {
  /** Odd. Default 3. */
  kernelSize?: number;
  /** Doubles height and width. Default false. */
  upsample?: boolean;
  rng: Rng;
}

/**
 * StyleGAN2's layer: a convolution modulated and demodulated by styles `affine(w)`, noise, bias, leaky ReLU of slope 0.2
 * times `sqrt 2`; `[batch, in, height, width]` and `w` `[batch, wDim]` to `[batch, out, resolution, resolution]`. The noise is
 * the constant one, `noise_const` `[resolution, resolution]` times `noise_strength`. Parameters are named as in the published
 * checkpoints: `weight` `[out, in, k, k]`, `bias` `[out]`, `affine`.
 *
 * Source: Karras et al. 2020, arXiv 1912.04958.
 */
export class SynthesisLayer extends Module<[Tensor, Tensor], Tensor> {
  readonly resolution: number;
  readonly #upsample: boolean;
  readonly affine: EqualizedLinear;
  weight: Parameter;
  readonly noise_const: Buffer;
  noise_strength: Parameter;
  bias: Parameter;

  /** @throws ConfigError unless the sizes are positive integers. */
  constructor(
    inChannels: number,
    outChannels: number,
    wDim: number,
    resolution: number,
    options: SynthesisLayerOptions,
  ) {
    super();
    const { kernelSize = 3, upsample = false, rng } = options;
    checkSizes('SynthesisLayer', { inChannels, outChannels, wDim, resolution, kernelSize });
    this.resolution = resolution;
    this.#upsample = upsample;
    this.affine = new EqualizedLinear(wDim, inChannels, { biasInit: 1, rng: rng.fork('affine') });
    this.weight = normal([outChannels, inChannels, kernelSize, kernelSize], rng.fork('weight'));
    this.noise_const = new Buffer({
      shape: [resolution, resolution],
      init: () => rng.fork('noise').normal([resolution, resolution]),
    });
    this.noise_strength = new Parameter(zeros([]));
    this.bias = new Parameter(zeros([outChannels]));
  }

  /** @throws ShapeError unless `x` has the height and width that lead to `resolution`. */
  override forward(x: Tensor, w: Tensor): Tensor {
    const size = this.#upsample ? this.resolution / 2 : this.resolution;
    if (x.rank !== 4 || x.shape[1] !== this.affine.outFeatures || x.shape[2] !== size || x.shape[3] !== size) {
      throw new ShapeError(`This layer takes [batch, ${this.affine.outFeatures}, ${size}, ${size}], not [${x.shape}].`);
    }
    const convolve = this.#upsample ? upsamplingConvolution : undefined;
    const y = modulatedConv2d(x, this.weight.value, this.affine.apply(w), { convolve });
    const noise = mul(this.noise_const.stored, this.noise_strength.value);
    const biased = add(add(y, noise), reshape(this.bias.value, [1, -1, 1, 1]));
    return mul(leakyRelu(biased, 0.2), Math.SQRT2);
  }
}

/** Upsampling, then the convolution with the kernel turned by 180 degrees, as the published layers have it. */
function upsamplingConvolution(x: Tensor, weight: Tensor): Tensor {
  const padding = halfOf(weight);
  return convolve2d(upsampled(x, padding + 2, padding + 1), reverse(weight, [2, 3]));
}

/**
 * StyleGAN2's layer to colors: a 1x1 convolution modulated by styles `affine(w) / sqrt(in)`, not demodulated, and a bias;
 * `[batch, in, height, width]` and `w` `[batch, wDim]` to `[batch, out, height, width]`.
 *
 * Source: Karras et al. 2020, arXiv 1912.04958.
 */
export class ToRGBLayer extends Module<[Tensor, Tensor], Tensor> {
  readonly affine: EqualizedLinear;
  weight: Parameter;
  bias: Parameter;

  /** @throws ConfigError unless the sizes are positive integers. */
  constructor(inChannels: number, outChannels: number, wDim: number, { rng }: { rng: Rng }) {
    super();
    checkSizes('ToRGBLayer', { inChannels, outChannels, wDim });
    this.affine = new EqualizedLinear(wDim, inChannels, { biasInit: 1, rng: rng.fork('affine') });
    this.weight = normal([outChannels, inChannels, 1, 1], rng.fork('weight'));
    this.bias = new Parameter(zeros([outChannels]));
  }

  override forward(x: Tensor, w: Tensor): Tensor {
    const styles = mul(this.affine.apply(w), 1 / Math.sqrt(this.affine.outFeatures));
    return add(
      modulatedConv2d(x, this.weight.value, styles, { demodulate: false }),
      reshape(this.bias.value, [1, -1, 1, 1]),
    );
  }
}

const normal = (shape: number[], rng: Rng): Parameter => new Parameter({ shape, init: () => normal_()(shape, rng) });

/** Half a kernel's size, without its middle. */
const halfOf = (weight: Tensor): number => Math.floor((weight.shape[2] as number) / 2);
