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
  type Tensor,
  type Tensor4D,
  transpose,
} from '@ashlar/tensor';
import { type Initializer, kaimingUniform_, uniform_ } from './init.ts';

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
    const sizes = { inChannels, outChannels, groups, kernelSize: kernel, stride, dilation };
    for (const [name, size] of Object.entries(sizes)) {
      if (![size].flat().every((n) => Number.isInteger(n) && n > 0)) {
        throw new ConfigError(`${name} is ${size}; it must be a positive integer.`);
      }
    }
    if (!padding.every((n) => Number.isInteger(n) && n >= 0)) {
      throw new ConfigError(`padding is ${padding}; it must be an integer of at least 0.`);
    }
    if (inChannels % groups !== 0 || outChannels % groups !== 0) {
      throw new ConfigError(
        `groups is ${groups}; it must divide ${inChannels} input and ${outChannels} output channels.`,
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

  override forward(x: Tensor): Tensor {
    if (x.rank !== 4 || x.shape[1] !== this.inChannels) {
      throw new ShapeError(`This layer takes [batch, ${this.inChannels}, height, width], not [${x.shape}].`);
    }
    const [vertical, horizontal] = this.padding;
    const channelsLast = transpose(x, [0, 2, 3, 1]);
    const padded =
      vertical + horizontal === 0
        ? channelsLast
        : pad(channelsLast, [
            [0, 0],
            [vertical, vertical],
            [horizontal, horizontal],
            [0, 0],
          ]);
    const convolved = transpose(this.#convolve(padded as Tensor4D), [0, 3, 1, 2]);
    return this.bias === undefined ? convolved : add(convolved, reshape(this.bias.value, [1, -1, 1, 1]));
  }

  /** On `[batch, height, width, in]`. */
  #convolve(x: Tensor4D): Tensor4D {
    const { groups, inChannels, outChannels, stride, dilation } = this;
    const kernel = transpose(this.weight.value, [2, 3, 1, 0]) as Tensor4D;
    if (groups === 1) return conv2d(x, kernel, stride, 'valid', 'NHWC', dilation);
    if (groups === inChannels && (Math.max(...stride) === 1 || Math.max(...dilation) === 1)) {
      const multiplier = outChannels / inChannels;
      const depthwise = reshape(kernel, [...this.kernelSize, inChannels, multiplier]) as Tensor4D;
      return depthwiseConv2d(x, depthwise, stride, 'valid', 'NHWC', dilation);
    }
    const kernels = split(kernel, groups, 3);
    const parts = split(x, groups, 3).map((part, i) =>
      conv2d(part as Tensor4D, kernels[i] as Tensor4D, stride, 'valid', 'NHWC', dilation),
    );
    return concat(parts, 3);
  }
}
