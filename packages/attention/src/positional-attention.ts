import { Linear, mergeHeads, splitHeads, xavierUniform_, zeros_ } from '@ashlar/nn';
import {
  ConfigError,
  checkInteger,
  checkOptions,
  checkRng,
  concat,
  eye,
  Module,
  matMul,
  mul,
  type Rng,
  reshape,
  ShapeError,
  slice,
  softmax,
  type Tensor,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { checkHeads } from './options.ts';

export interface PositionalAttentionOptions {
  /** Width of the tokens, `m`; a multiple of `numHeads`. */
  readonly embedDim: number;
  /** Width of the positions, `p`: of the queries and keys of EACH head. */
  readonly positionDim: number;
  readonly numHeads: number;
  readonly rng: Rng;
}

/**
 * Attention whose weights depend on the positions `P` alone; the tokens `X` are only values:
 * `A_h = softmax(Q_h K_h^T / sqrt(p))` with `Q_h = P Wq_h^T + bq_h` and `K_h = P Wk_h^T + bk_h`, then
 * `concat_h(A_h V_h) Wo^T + bo`, `V = X Wv^T + bv`. One set of weights serves the whole batch.
 *
 * The weights start Xavier-uniform, the biases at zero.
 *
 * Source: Back de Luca, Giapitzakis, Yang, Veličković and Fountoulakis, "Positional Attention: Expressivity and Learnability of
 * Algorithmic Computation" (ICML 2025, arXiv 2410.01686).
 */
export class PositionalAttention extends Module<[Tensor, Tensor]> {
  readonly positionDim: number;
  readonly numHeads: number;
  /** Of each head first the queries, then the keys: `weight` `[2 positionDim numHeads, positionDim]`. */
  readonly qk_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;

  /** @throws ConfigError for a size that is no positive integer, or heads that do not divide `embedDim`. */
  constructor(options: PositionalAttentionOptions) {
    super();
    checkRng('PositionalAttention', checkOptions('PositionalAttention', options).rng);
    const { embedDim, positionDim, numHeads, rng } = options;
    checkHeads('PositionalAttention', embedDim, numHeads);
    checkInteger('PositionalAttention', 'positionDim', positionDim);
    this.positionDim = positionDim;
    this.numHeads = numHeads;
    this.qk_proj = projection(positionDim, 2 * positionDim * numHeads, rng.fork('qk_proj'));
    this.v_proj = projection(embedDim, embedDim, rng.fork('v_proj'));
    this.o_proj = projection(embedDim, embedDim, rng.fork('o_proj'));
  }

  /**
   * `[batch, T, embedDim]` to the same.
   * @param routing positions `[T, positionDim]`, or the `weights` that they lead to, `[numHeads, T, T]`.
   * @throws ShapeError unless there is a position for each token.
   */
  override forward(x: Tensor, routing: Tensor): Tensor {
    const { positionDim, numHeads } = this;
    const length = x.shape[1];
    const expected = routing.rank === 3 ? [numHeads, length, length] : [length, positionDim];
    if (x.rank !== 3 || String(routing.shape) !== String(expected)) {
      throw new ShapeError(
        `PositionalAttention takes tokens [batch, T, ${this.v_proj.inFeatures}] with positions [T, ${positionDim}] or ` +
          `weights [${numHeads}, T, T], not [${x.shape}] with [${routing.shape}].`,
      );
    }
    const weights = routing.rank === 3 ? routing : this.weights(routing);
    return this.o_proj.apply(mergeHeads(matMul(weights, splitHeads(this.v_proj.apply(x), numHeads))));
  }

  /**
   * The attention of positions `[T, positionDim]`, `[numHeads, T, T]`: what `forward` may be given in their place, as long as
   * the parameters stay. The caller disposes of it.
   */
  weights(positions: Tensor): Tensor {
    const { positionDim, numHeads } = this;
    return tidy(() => {
      const qk = reshape(this.qk_proj.apply(positions), [-1, numHeads, 2, positionDim]);
      const [q, k] = [0, 1].map((part) =>
        transpose(reshape(slice(qk, [0, 0, part, 0], [-1, -1, 1, -1]), [-1, numHeads, positionDim]), [1, 0, 2]),
      );
      return softmax(matMul(mul(q, 1 / Math.sqrt(positionDim)), k, false, true));
    });
  }
}

/** Xavier-uniform with zero biases. */
export function projection(inFeatures: number, outFeatures: number, rng: Rng): Linear {
  return new Linear(inFeatures, outFeatures, { rng, init: xavierUniform_(), biasInit: zeros_() });
}

/** The default positions, `I_T`: each its own. */
export function identityPositions(length: number): Tensor {
  checkInteger('identityPositions', 'length', length);
  return eye(length);
}

/**
 * Positions of a shorter input: rows `0 … n - 1` of the table and its LAST `extra` rows, which stay those of the scratch
 * nodes.
 * @param base `[T, positionDim]`. @returns `[n + extra, positionDim]`.
 * @throws ConfigError if the table has fewer rows, ShapeError if it is none.
 */
export function positionsForLength(base: Tensor, n: number, extra: number): Tensor {
  checkInteger('positionsForLength', 'n', n);
  checkInteger('positionsForLength', 'extra', extra, 0);
  if (base.rank !== 2) {
    throw new ShapeError(`positionsForLength takes a table [T, positionDim], not [${base.shape}].`);
  }
  const [rows] = base.shape as [number, number];
  if (n + extra > rows) {
    throw new ConfigError(
      `positionsForLength: n is ${n}; with ${extra} extra nodes a table of ${rows} has none beyond.`,
    );
  }
  return tidy(() => concat([slice(base, [0, 0], [n, -1]), slice(base, [rows - extra, 0], [extra, -1])], 0));
}
