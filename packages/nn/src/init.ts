import { ones, orthogonal, type Rng, ShapeError, type ShapeMap, type Tensor, zeros } from '@ashlar/tensor';

/** Makes the initial value of a parameter of a given shape. */
export type Initializer = (shape: number[], rng: Rng) => Tensor;

/**
 * Inputs and outputs of one unit of a weight in PyTorch's layout: `[out, in]`, or `[out, in, ...kernel]` where the kernel's
 * size multiplies both.
 */
function fans(shape: readonly number[]): { fanIn: number; fanOut: number } {
  if (shape.length < 2) {
    throw new ShapeError(`Fan-in and fan-out are those of a weight [out, in, ...kernel], not of [${shape}].`);
  }
  const receptive = shape.slice(2).reduce((product, size) => product * size, 1);
  return { fanIn: shape[1] * receptive, fanOut: shape[0] * receptive };
}

const uniform = (shape: number[], bound: number, rng: Rng): Tensor =>
  rng.uniform(shape as ShapeMap['R4'], { low: -bound, high: bound });

/**
 * U(-b, b) with b = sqrt(6 / ((1 + a^2) fan_in)), as `torch.nn.init.kaiming_uniform_` for leaky ReLU of slope `a`.
 *
 * Source: He et al. 2015, arXiv 1502.01852.
 */
export function kaimingUniform_(options: { a?: number } = {}): Initializer {
  const { a = 0 } = options;
  return (shape, rng) => uniform(shape, Math.sqrt(6 / ((1 + a * a) * fans(shape).fanIn)), rng);
}

/** U(-b, b) with b = gain sqrt(6 / (fan_in + fan_out)). Source: Glorot & Bengio 2010. */
export function xavierUniform_(options: { gain?: number } = {}): Initializer {
  const { gain = 1 } = options;
  return (shape, rng) => {
    const { fanIn, fanOut } = fans(shape);
    return uniform(shape, gain * Math.sqrt(6 / (fanIn + fanOut)), rng);
  };
}

/** U(low, high). */
export function uniform_(low: number, high: number): Initializer {
  return (shape, rng) => rng.uniform(shape as ShapeMap['R4'], { low, high });
}

/** N(mean, std^2). */
export function normal_(options: { mean?: number; std?: number } = {}): Initializer {
  return (shape, rng) => rng.normal(shape as ShapeMap['R4'], options);
}

/** N(mean, std^2) cut to [low, high], which are absolute values as in PyTorch. */
export function truncNormal_(options: { mean?: number; std?: number; low?: number; high?: number } = {}): Initializer {
  return (shape, rng) => rng.truncatedNormal(shape as ShapeMap['R4'], options);
}

/**
 * A (semi-)orthogonal matrix times `gain`, uniformly distributed; axes after the first are flattened.
 *
 * Source: Saxe, McClelland and Ganguli 2014, arXiv 1312.6120.
 */
export function orthogonal_(options: { gain?: number } = {}): Initializer {
  return (shape, rng) => orthogonal(shape as ShapeMap['R4'], { ...options, rng });
}

export function zeros_(): Initializer {
  return (shape) => zeros(shape);
}

export function ones_(): Initializer {
  return (shape) => ones(shape);
}
