import { Linear, RMSNorm, xavierUniform_, zeros_ } from '@ashlar/nn';
import {
  add,
  ConfigError,
  checkChoice,
  checkInteger,
  checkOptions,
  checkRng,
  concat,
  exp,
  Module,
  matMul,
  mul,
  neg,
  ones,
  Parameter,
  pad,
  quote,
  type Rng,
  range,
  reshape,
  ShapeError,
  slice,
  softplus,
  sum,
  type Tensor,
  tensor2d,
  transpose,
  zeros,
} from '@ashlar/tensor';

const CHUNK = 64;

export interface TpeOptions {
  /** Width of the tokens, `D`; a multiple of `heads`. */
  readonly dim: number;
  readonly heads: number;
  /** The decay of a head from its `log_decay` `w`: `'sigmoid'`, `sigmoid(w)` (default); `'expexp'`, `exp(-exp(w))` (the paper). */
  readonly decay?: 'sigmoid' | 'expexp';
  /** Whether the tokens themselves are added to the result. Default false, as in the author's code. */
  readonly residual?: boolean;
  readonly rng: Rng;
}

/**
 * TPE along one axis: `y_i = (q_h . k_h) sum_{j <= i} r_h^(i - j) x_j` for the channels of head `h`, then RMSNorm over all
 * (1e-5 is added to the SUM of squares) and a linear map without bias. A one-sided Toeplitz product, computed in chunks at a
 * cost linear in the length.
 *
 * Starts from `q = k = 1` and `log_decay = 0`. With a residual (of `MdTpe`) the linear map starts at zero, as in the author's
 * code; without one nothing would pass then, so it starts Xavier-uniform with gain 0.01.
 *
 * Source: "You Only Scan Once: Efficient Multi-dimension Sequential Modeling with LightNet" (2024, arXiv 2405.21022).
 */
export class Tpe extends Module {
  readonly dim: number;
  readonly heads: number;
  readonly decay: 'sigmoid' | 'expexp';
  /** `[D]`, head by head, as `k`. */
  readonly q: Parameter;
  readonly k: Parameter;
  /** `[heads]`. */
  readonly log_decay: Parameter;
  readonly norm: RMSNorm;
  readonly o_proj: Linear;

  /** @throws ConfigError for an option out of range. */
  constructor(options: TpeOptions) {
    super();
    const { dim, heads, decay = 'sigmoid', residual = false, rng } = checkOptions('Tpe', options);
    checkInteger('Tpe', 'dim', dim);
    checkInteger('Tpe', 'heads', heads);
    if (dim % heads !== 0) throw new ConfigError(`Tpe: dim is ${dim}; it must be a multiple of heads, ${heads}.`);
    checkChoice('Tpe', 'decay', decay, ['sigmoid', 'expexp']);
    checkRng('Tpe', rng);
    this.dim = dim;
    this.heads = heads;
    this.decay = decay;
    this.q = new Parameter({ shape: [dim], init: () => ones([dim]) });
    this.k = new Parameter({ shape: [dim], init: () => ones([dim]) });
    this.log_decay = new Parameter({ shape: [heads], init: () => zeros([heads]) });
    this.norm = new RMSNorm(dim, { eps: 1e-5 / dim });
    const init = residual ? zeros_() : xavierUniform_({ gain: 0.01 });
    this.o_proj = new Linear(dim, dim, { bias: false, init, rng: rng.fork('o_proj') });
  }

  /** `[batch, n, D]` to the same. */
  override forward(x: Tensor): Tensor {
    const { dim, heads } = this;
    const [batch, length] = x.shape;
    if (x.rank !== 3 || length === 0 || x.shape[2] !== dim) {
      throw new ShapeError(`Tpe takes tokens [batch, n, ${dim}] with n from 1, not [${x.shape}].`);
    }
    const w = this.log_decay.value;
    const logDecay = neg(this.decay === 'sigmoid' ? softplus(neg(w)) : exp(w));
    const scale = sum(reshape(mul(this.q.value, this.k.value), [heads, -1]), 1, true);
    const byHead = transpose(reshape(x, [batch, length, heads, -1]), [2, 1, 0, 3]);
    const summed = decayedSum(reshape(byHead, [heads, length, -1]), reshape(logDecay, [heads, 1, 1]));
    const scaled = reshape(mul(summed, reshape(scale, [heads, 1, 1])), byHead.shape);
    const y = reshape(transpose(scaled, [2, 1, 0, 3]), [batch, length, dim]);
    return this.o_proj.apply(this.norm.apply(y));
  }
}

/** `y_i = sum_{j <= i} exp(logDecay)^(i - j) x_j` along axis 1 of `[heads, n, width]`; `logDecay` `[heads, 1, 1]`. */
function decayedSum(x: Tensor, logDecay: Tensor): Tensor {
  const [heads, length, width] = x.shape;
  const chunk = Math.min(CHUNK, length);
  const chunks = Math.ceil(length / chunk);
  const lags = Float32Array.from({ length: chunk * chunk }, (_, i) => Math.floor(i / chunk) - (i % chunk));
  const square: [number, number] = [chunk, chunk];
  const powers = exp(
    mul(
      tensor2d(
        lags.map((lag) => Math.max(0, lag)),
        square,
      ),
      logDecay,
    ),
  );
  const toeplitz = mul(
    powers,
    tensor2d(
      lags.map((lag) => (lag < 0 ? 0 : 1)),
      square,
    ),
  );
  const padded = pad(x, [
    [0, 0],
    [0, chunks * chunk - length],
    [0, 0],
  ]);
  const own = matMul(reshape(toeplitz, [heads, 1, ...square]), reshape(padded, [heads, chunks, chunk, width]));
  if (chunks === 1) return reshape(own, x.shape);
  const ends = reshape(slice(own, [0, 0, chunk - 1, 0], [-1, chunks - 1, 1, -1]), [heads, chunks - 1, width]);
  const carried = concat([zeros([heads, 1, width]), decayedSum(ends, mul(logDecay, chunk))], 1);
  const fading = exp(mul(reshape(range(1, chunk + 1), [1, chunk, 1]), logDecay));
  const all = add(own, mul(reshape(fading, [heads, 1, chunk, 1]), reshape(carried, [heads, chunks, 1, width])));
  return slice(reshape(all, [heads, -1, width]), [0, 0, 0], [-1, length, -1]);
}

/**
 * MD-TPE: the sum over axes of one `Tpe` along each, with parameters of its own; added up or, with `residual`, added to the
 * tokens. It goes before the first block and tells the tokens apart for a core that ignores their order.
 *
 * Source: as `Tpe`.
 */
export class MdTpe extends Module {
  readonly axes: readonly number[];
  readonly residual: boolean;
  /** One for each of `axes`. */
  readonly tpe: Tpe[];

  /**
   * @param options.axes which axes of the tokens, counted from the end (the channels are -1). Default `[-2]`: a sequence.
   * @throws ConfigError for an option out of range.
   */
  constructor(options: TpeOptions & { readonly axes?: readonly number[] }) {
    super();
    const { axes = [-2], residual = false, rng } = checkOptions('MdTpe', options);
    checkRng('MdTpe', rng);
    if (
      !Array.isArray(axes) ||
      axes.length === 0 ||
      new Set(axes).size < axes.length ||
      axes.some((axis) => !Number.isInteger(axis) || axis > -2)
    ) {
      throw new ConfigError(`MdTpe: axes is ${quote(axes)}; it must be different integers below -1, as in [-2, -3].`);
    }
    this.axes = [...axes];
    this.residual = residual;
    this.tpe = axes.map((_, i) => new Tpe({ ...options, rng: rng.fork(i) }));
  }

  /**
   * `[batch, n_1, …, n_m, D]` to the same.
   * @throws ShapeError if it has too few axes, an axis of no tokens, or another width.
   */
  override forward(x: Tensor): Tensor {
    const { rank } = x;
    const first = Math.min(...this.axes) + rank;
    if (first < 1) {
      throw new ShapeError(`MdTpe: tokens [batch, …, ${this.tpe[0].dim}] have no axes [${this.axes}]: [${x.shape}].`);
    }
    if (x.size === 0) throw new ShapeError(`MdTpe: there are no tokens in [${x.shape}]; give at least one.`);
    const terms = this.axes.map((axis, i) => {
      const order = x.shape.map((_, place) => place).filter((place) => place !== axis + rank && place !== rank - 1);
      order.push(axis + rank, rank - 1);
      const moved = transpose(x, order);
      const [length, dim] = moved.shape.slice(-2);
      const encoded = reshape(this.tpe[i].apply(reshape(moved, [-1, length, dim])), moved.shape);
      return transpose(
        encoded,
        order.map((_, place) => order.indexOf(place)),
      );
    });
    return (this.residual ? [x, ...terms] : terms).reduce((a, b) => add(a, b));
  }
}
