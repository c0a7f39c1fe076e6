import {
  cast,
  checkChoice,
  checkInteger,
  checkNumber,
  checkOptions,
  concat,
  cos,
  mul,
  type PositionEncoding,
  reshape,
  ShapeError,
  sin,
  stack,
  type Tensor,
  type Tensor2D,
  tensor1d,
  tidy,
} from '@ashlar/tensor';
import { checkPositions, MOST } from './positions.ts';

/** `'halves'`: all sines, then all cosines. `'interleaved'`: sine and cosine of a frequency side by side. */
export type SinusoidalLayout = 'halves' | 'interleaved';

export interface SinusoidalOptions {
  /** Default 10000. */
  readonly base?: number;
  /** Default `'halves'`; Vaswani et al. interleave. */
  readonly layout?: SinusoidalLayout;
}

/**
 * Sines and cosines of `p base^(-2i / dim)`, `i = 0 .. dim/2 - 1`, for each position `p`; any real positions,
 * differentiable in them.
 * @param positions `[seq]`.
 * @param dim even.
 * @returns `[seq, dim]`.
 * @throws ShapeError for positions of another shape or an odd `dim`, ConfigError for positions that are not finite or an
 *   option out of range.
 */
export function sinusoidalTable(positions: Tensor, dim: number, options: SinusoidalOptions = {}): Tensor2D {
  const { base = 10000, layout = 'halves' } = options;
  checkWidth('sinusoidalTable', dim, 2, base, layout);
  checkPositions('sinusoidalTable', positions);
  return sinusoids(positions, dim, base, layout);
}

/** As `sinusoidalTable`, of what has been checked, or is computed and so not there to be looked at. */
export function sinusoids(positions: Tensor, dim: number, base: number, layout: SinusoidalLayout): Tensor2D {
  const frequencies = Float32Array.from({ length: dim / 2 }, (_, i) => base ** ((-2 * i) / dim));
  return tidy(() => {
    const angles = mul(reshape(cast(positions, 'float32'), [-1, 1]), tensor1d(frequencies));
    const [sines, cosines] = [sin(angles), cos(angles)];
    const table = layout === 'halves' ? concat([sines, cosines], 1) : reshape(stack([sines, cosines], 2), [-1, dim]);
    return table as Tensor2D;
  });
}

/**
 * Fixed sinusoidal encoding, added to the tokens.
 *
 * Source: Vaswani et al., "Attention is all you need" (2017, arXiv 1706.03762); the layout in halves is that of
 * tensor2tensor and of the length generalization study (2023, arXiv 2305.19466).
 */
export class Sinusoidal implements PositionEncoding {
  readonly dim: number;
  readonly base: number;
  readonly layout: SinusoidalLayout;

  /** @throws ConfigError if `dim` is odd or an option is out of range. */
  constructor(options: SinusoidalOptions & { readonly dim: number }) {
    const { dim, base = 10000, layout = 'halves' } = checkOptions('Sinusoidal', options);
    checkWidth('Sinusoidal', dim, 2, base, layout);
    this.dim = dim;
    this.base = base;
    this.layout = layout;
  }

  /** `[seq] -> [seq, dim]`. */
  embed(positions: Tensor): Tensor {
    checkPositions('Sinusoidal', positions);
    return sinusoids(positions, this.dim, this.base, this.layout);
  }
}

/** @throws ShapeError unless `dim` is a multiple of `multiple`; ConfigError for the other options. */
export function checkWidth(owner: string, dim: number, multiple: number, base: number, layout: SinusoidalLayout): void {
  checkInteger(owner, 'dim', dim, multiple, MOST);
  if (dim % multiple !== 0) {
    throw new ShapeError(
      `${owner}: dim is ${dim}; it must be a multiple of ${multiple}, a sine and a cosine for each frequency` +
        `${multiple === 4 ? ' of each axis' : ''}.`,
    );
  }
  checkNumber(`${owner}: base`, base, { above: 1 });
  checkChoice(owner, 'layout', layout, ['halves', 'interleaved']);
}
