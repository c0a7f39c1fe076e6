import {
  ConfigError,
  cast,
  checkInteger,
  checkNumber,
  checkOptions,
  checkRng,
  gatherRows,
  Module,
  Parameter,
  type PositionEncoding,
  type Rng,
  reshape,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { checkPositions, wholePositions } from './positions.ts';

/**
 * A learned vector for each position, added to the tokens (GPT-2, BERT, ViT). Positions are whole and below
 * `maxPositions`: the table has nothing beyond its end.
 *
 * Source: Gehring et al., "Convolutional sequence to sequence learning" (2017, arXiv 1705.03122).
 */
export class LearnedAbsolute extends Module<[Tensor]> implements PositionEncoding {
  /** `[maxPositions, dim]`. */
  readonly weight: Parameter;

  /** @param options.rng draws the initial table from a normal distribution of standard deviation `std` (default 0.02). */
  constructor(options: {
    readonly maxPositions: number;
    readonly dim: number;
    readonly rng: Rng;
    readonly std?: number;
  }) {
    super();
    const { maxPositions, dim, rng, std = 0.02 } = checkOptions('LearnedAbsolute', options);
    checkInteger('LearnedAbsolute', 'maxPositions', maxPositions);
    checkInteger('LearnedAbsolute', 'dim', dim);
    checkNumber('LearnedAbsolute: std', std, { min: 0 });
    checkRng('LearnedAbsolute', rng);
    const shape: [number, number] = [maxPositions, dim];
    this.weight = new Parameter({ shape, init: () => rng.normal(shape, { std }) });
  }

  /** `[seq] -> [seq, dim]`. */
  forward(positions: Tensor): Tensor {
    return this.embed(positions);
  }

  /**
   * `[seq] -> [seq, dim]`.
   * @throws ConfigError if a position is fractional, negative or beyond the table.
   */
  embed(positions: Tensor): Tensor {
    checkPositions('LearnedAbsolute', positions);
    const [rows] = this.weight.shape;
    const values = wholePositions('LearnedAbsolute', positions);
    for (let i = 0; i < values.length; i++) {
      if (values[i] < rows) continue;
      throw new ConfigError(
        `LearnedAbsolute: position ${values[i]} is outside the table of ${rows} (maxPositions); use shorter ` +
          `sequences or a larger table.`,
      );
    }
    return tidy(() => gatherRows(this.weight.value, reshape(cast(positions, 'int32'), [-1])));
  }
}
