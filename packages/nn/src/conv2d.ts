import {
  add,
  ConfigError,
  concat,
  conv2d,
  depthwiseConv2d,
  Module,
  Parameter,
  pad,
  type Rng,
  reshape,
  ShapeError,
  split,
  stridedSlice,
  type Tensor,
  type Tensor4D,
  transpose,
} from '@ashlar/tensor';
import { type Initializer, kaimingUniform_, uniform_ } from './init.ts';
import { checkSizes } from './options.ts';

type Pair = number | readonly [number, number];

export interface Conv2dOptions {
  /** Default 1. */
  stride?: Pair;
  /** Zeros added on both sides. Default 0. */
  padding?: Pair;
  /** Default 1. */
  dilation?: Pair;
  /** Default 1. */
  groups?: number;
  /** Default true. */
  bias?: boolean;
  rng: Rng;
  /** Default: Kaiming-uniform with a = sqrt(5), as PyTorch. */
  init?: Initializer;
}

const pair = (value: Pair): [number, number] => (typeof value === 'number' ? [value, value] : [value[0], value[1]]);

/**
 * 2-D cross-correlation in PyTorch's layout: `[batch, in, height, width]` to `[batch, out, height', width']`, `weight`
 * `[out, in / groups, kernelHeight, kernelWidth]`, `bias` `[out]`.
 */
export class Conv2d extends Module {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernelSize: [number, number];
  readonly stride: [number, number];
  readonly padding: [number, number];
  readonly dilation: [number, number];
  readonly groups: number;
  weight: Parameter;
  bias?: Parameter;

  /** @throws ConfigError for sizes that are no positive integers (`padding`: not negative) or groups that do not divide. */
  constructor(inChannels: number, outChannels: number, kernelSize: Pair, options: Conv2dOptions) {
    super();
    const { bias = true, groups = 1, rng, init = kaimingUniform_({ a: Math.sqrt(5) }) } = options;
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.groups = groups;
    this.kernelSize = pair(kernelSize);
    this.stride = pair(options.stride ?? 1);
    this.padding = pair(options.padding ?? 0);
    this.dilation = pair(options.dilation ?? 1);
    const { kernelSize: kernel, stride, dilation, padding } = this;
    checkSizes('Conv2d', { inChannels, outChannels, groups });
    for (const axis of [0, 1]) {
      checkSizes('Conv2d', { kernelSize: kernel[axis], stride: stride[axis], dilation: dilation[axis] });
    }
    if (!padding.every((n) => Number.isInteger(n) && n >= 0)) {
      throw new ConfigError(`Conv2d: padding is ${padding}; it must be an integer of at least 0.`);
    }
    if (inChannels % groups !== 0 || outChannels % groups !== 0) {
      throw new ConfigError(
        `Conv2d: groups is ${groups}; it must divide ${inChannels} input and ${outChannels} output channels.`,
      );
    }
    const shape = [outChannels, inChannels / groups, ...kernel];
    this.weight = new Parameter({ shape, init: () => init(shape, rng.fork('weight')) });
    if (!bias) return;
    const bound = 1 / Math.sqrt((inChannels / groups) * kernel[0] * kernel[1]);
    this.bias = new Parameter({
      shape: [outChannels],
      init: () => uniform_(-bound, bound)([outChannels], rng.fork('bias')),
    });
  }

  /** @throws ShapeError unless `x` has rank 4, `inChannels` channels and at least the kernel's extent. */
  override forward(x: Tensor): Tensor {
    if (x.rank !== 4 || x.shape[1] !== this.inChannels) {
      throw new ShapeError(`This layer takes [batch, ${this.inChannels}, height, width], not [${x.shape}].`);
    }
    const convolved = this.convolve(x, this.weight.value);
    return this.bias === undefined ? convolved : add(convolved, reshape(this.bias.value, [1, -1, 1, 1]));
  }

  /**
   * The convolution of this layer with other weights, `[out', in / groups, kernelHeight, kernelWidth]`, and no bias:
   * `[batch, in, height, width]` to `[batch, out', height', width']`.
   * @throws ShapeError unless `x` has at least the kernel's extent.
   */
  convolve(x: Tensor, weight: Tensor): Tensor {
    return convolve2d(x, weight, this);
  }
}

/**
 * The 2-D cross-correlation of `x` `[batch, in, height, width]` with `weight` `[out, in / groups, kernelHeight,
 * kernelWidth]`: `[batch, out, height', width']`.
 * @throws ShapeError unless `x` has at least the kernel's extent.
 */
export function convolve2d(
  x: Tensor,
  weight: Tensor,
  options: { stride?: Pair; padding?: Pair; dilation?: Pair; groups?: number } = {},
): Tensor {
  const [stride, padding, dilation] = [options.stride ?? 1, options.padding ?? 0, options.dilation ?? 1].map(pair);
  const kernelSize = weight.shape.slice(2);
  for (const [axis, kernel] of kernelSize.entries()) {
    const extent = dilation[axis] * (kernel - 1) + 1;
    if (x.shape[2 + axis] + 2 * padding[axis] >= extent) continue;
    throw new ShapeError(
      `The kernel reaches over ${extent} ${['rows', 'columns'][axis]}; [${x.shape}] with padding ${padding} has fewer.`,
    );
  }
  const channelsLast = transpose(x, [0, 2, 3, 1]);
  const [vertical, horizontal] = padding;
  const padded =
    vertical + horizontal === 0
      ? channelsLast
      : pad(channelsLast, [
          [0, 0],
          [vertical, vertical],
          [horizontal, horizontal],
          [0, 0],
        ]);
  const kernel = transpose(weight, [2, 3, 1, 0]) as Tensor4D;
  return transpose(
    channelsLastConvolution(padded as Tensor4D, kernel, stride, dilation, options.groups ?? 1),
    [0, 3, 1, 2],
  );
}

/** On `[batch, height, width, in]`, with a kernel `[kernelHeight, kernelWidth, in / groups, out]`. */
function channelsLastConvolution(
  x: Tensor4D,
  kernel: Tensor4D,
  stride: [number, number],
  dilation: [number, number],
  groups: number,
): Tensor4D {
  const inChannels = x.shape[3];
  const [height, width, , outChannels] = kernel.shape;
  // tfjs takes no stride together with a dilation: convolve everywhere, then keep every stride-th place.
  const thinned = Math.max(...stride) > 1 && Math.max(...dilation) > 1;
  const step: [number, number] = thinned ? [1, 1] : stride;
  const convolve = (x: Tensor4D, kernel: Tensor4D): Tensor4D => conv2d(x, kernel, step, 'valid', 'NHWC', dilation);
  let y: Tensor4D;
  if (groups === 1) {
    y = convolve(x, kernel);
  } else if (groups === inChannels) {
    const depthwise: Tensor4D = reshape(kernel, [height, width, inChannels, outChannels / inChannels]);
    y = depthwiseConv2d(x, depthwise, step, 'valid', 'NHWC', dilation);
  } else {
    const kernels = split(kernel, groups, 3) as Tensor4D[];
    y = concat(
      split(x, groups, 3).map((part, i) => convolve(part as Tensor4D, kernels[i])),
      3,
    ) as Tensor4D;
  }
  return thinned ? (stridedSlice(y, [0, 0, 0, 0], y.shape, [1, ...stride, 1]) as Tensor4D) : y;
}
