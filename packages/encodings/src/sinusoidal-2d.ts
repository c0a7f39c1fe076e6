import { checkChoice, checkOptions, concat, type PositionEncoding, slice, type Tensor, tidy } from '@ashlar/tensor';
import { checkPositions } from './positions.ts';
import { checkWidth, type SinusoidalLayout, type SinusoidalOptions, sinusoids } from './sinusoidal.ts';

/**
 * Fixed sinusoidal encoding of image patches: one half of the width encodes the column, the other the row.
 *
 * Source: Chen, Xie and He, "An empirical study of training self-supervised vision Transformers" (2021, arXiv
 * 2104.02057); He et al., "Masked autoencoders are scalable vision learners" (2021, arXiv 2111.06377), whose tables have
 * the column first.
 */
export class Sinusoidal2d implements PositionEncoding {
  readonly dim: number;
  readonly base: number;
  readonly layout: SinusoidalLayout;
  readonly first: 'column' | 'row';

  /**
   * @param options.dim a multiple of 4.
   * @param options.first what the first half of the width encodes. Default `'column'`.
   */
  constructor(options: SinusoidalOptions & { readonly dim: number; readonly first?: 'column' | 'row' }) {
    const { dim, base = 10000, layout = 'halves', first = 'column' } = checkOptions('Sinusoidal2d', options);
    checkWidth('Sinusoidal2d', dim, 4, base, layout);
    checkChoice('Sinusoidal2d', 'first', first, ['column', 'row']);
    this.dim = dim;
    this.base = base;
    this.layout = layout;
    this.first = first;
  }

  /** `[seq, 2]`, row and column of each patch, to `[seq, dim]`. */
  embed(positions: Tensor): Tensor {
    checkPositions('Sinusoidal2d', positions, 2);
    const axes = this.first === 'column' ? [1, 0] : [0, 1];
    return tidy(() =>
      concat(
        axes.map((axis) => sinusoids(slice(positions, [0, axis], [-1, 1]), this.dim / 2, this.base, this.layout)),
        1,
      ),
    );
  }
}
