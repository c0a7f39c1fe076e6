import { xavierUniform_ } from '@ashlar/nn';
import {
  broadcastTo,
  ConfigError,
  cast,
  checkInteger,
  checkOptions,
  checkRng,
  type EncodingContext,
  gatherRows,
  Module,
  matMul,
  mul,
  Parameter,
  type PositionEncoding,
  type Rng,
  reshape,
  ShapeError,
  slice,
  type Tensor,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { checkPositions, MOST, wholePositions } from './positions.ts';

export interface PositionalScoresOptions {
  readonly maxPositions: number;
  /** Of the model's attention. */
  readonly heads: number;
  /** Width of the learned queries and keys of each head. */
  readonly dim: number;
  /** Attention layers of the model; each has a table of its own. */
  readonly layers: number;
  /** Draws the tables, Xavier-uniform. */
  readonly rng: Rng;
}

/**
 * Positional attention in any model: the logits are `q_i . k_j / sqrt(dim)` of vectors learned for each position, layer and
 * head; what the tokens hold does not enter, and the model's own projections of queries and keys get no gradient.
 *
 * Source: Back de Luca et al., "Positional Attention" (ICML 2025, arXiv 2410.01686), with one-hot positions. There, `dim` is
 * the number of positions.
 */
export class PositionalScores extends Module<[Tensor, Tensor, EncodingContext]> implements PositionEncoding {
  readonly heads: number;
  readonly dim: number;
  /** For each layer `weight: [maxPositions, 2 dim heads]`: of each head first the query, then the key. */
  readonly layers: readonly { readonly weight: Parameter }[];

  /** @throws ConfigError for an option that is no positive integer. */
  constructor(options: PositionalScoresOptions) {
    super();
    const { maxPositions, heads, dim, layers, rng } = checkOptions('PositionalScores', options);
    for (const [name, value] of Object.entries({ maxPositions, heads, dim, layers })) {
      checkInteger('PositionalScores', name, value, 1, MOST);
    }
    checkRng('PositionalScores', rng);
    this.heads = heads;
    this.dim = dim;
    const shape = [maxPositions, 2 * dim * heads];
    this.layers = Array.from({ length: layers }, (_, layer) => ({
      weight: new Parameter({ shape, init: () => xavierUniform_()(shape, rng.fork(layer)) }),
    }));
  }

  /** `[q]` and `[k]` to `[heads, q, k]`. */
  forward(qPositions: Tensor, kPositions: Tensor, { layer }: EncodingContext): Tensor {
    const table = this.layers[layer]?.weight.value;
    if (table === undefined) {
      throw new ConfigError(`PositionalScores: layers is ${this.layers.length}; the model asks for layer ${layer}.`);
    }
    const [q, k] = [qPositions, kPositions].map((positions, part) => {
      const rows = gatherRows(table, this.#rowsOf(positions));
      const vectors = slice(reshape(rows, [-1, this.heads, 2, this.dim]), [0, 0, part, 0], [-1, -1, 1, -1]);
      return transpose(reshape(vectors, [-1, this.heads, this.dim]), [1, 0, 2]);
    });
    return matMul(mul(q, 1 / Math.sqrt(this.dim)), k, false, true);
  }

  /**
   * `[batch, heads, q, headDim]` and `[batch, heads, k, headDim]`, of which only the sizes matter, to `[batch, heads, q, k]`.
   * @throws ConfigError if a position is fractional, negative or beyond the table; ShapeError for other heads.
   */
  scores(q: Tensor, _k: Tensor, qPositions: Tensor, kPositions: Tensor, context: EncodingContext): Tensor {
    const [batch, heads] = q.shape as [number, number];
    if (q.rank !== 4 || heads !== this.heads) {
      throw new ShapeError(`PositionalScores: queries must be [batch, ${this.heads}, q, headDim], not [${q.shape}].`);
    }
    return tidy(() => {
      const logits = this.apply(qPositions, kPositions, context);
      return broadcastTo(logits, [batch, ...logits.shape]);
    });
  }

  #rowsOf(positions: Tensor): Tensor {
    checkPositions('PositionalScores', positions);
    const [rows] = this.layers[0].weight.shape;
    const values = wholePositions('PositionalScores', positions);
    for (let i = 0; i < values.length; i++) {
      if (values[i] >= 0 && values[i] < rows) continue;
      throw new ConfigError(
        `PositionalScores: position ${values[i]} is outside the tables of ${rows} (maxPositions); use shorter sequences or ` +
          'larger tables.',
      );
    }
    return reshape(cast(positions, 'int32'), [-1]);
  }
}
