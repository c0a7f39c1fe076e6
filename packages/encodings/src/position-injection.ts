import { type Initializer, Linear, truncNormal_, zeros_ } from '@ashlar/nn';
import {
  add,
  ConfigError,
  checkChoice,
  checkInteger,
  checkNumber,
  checkOptions,
  checkRng,
  Module,
  matMul,
  mul,
  type Rng,
  repeatInterleave,
  reshape,
  ShapeError,
  slice,
  type Tensor,
  tidy,
  transpose,
} from '@ashlar/tensor';

export interface PositionInjectionOptions {
  readonly mode: 'attn_mul' | 'attn_add' | 'attn_scalar';
  /** Width of the position vectors. */
  readonly peDim: number;
  readonly heads: number;
  /** Default `heads`. */
  readonly kvHeads?: number;
  /** Of queries and keys. Default `peDim / heads`; `attn_scalar`, which they need not fit, has none. */
  readonly headDim?: number;
  /** Whether each head has a part of the vectors, or all of them the whole. Default true. */
  readonly perHead?: boolean;
  /** Of the products in `attn_scalar`. Default 1. */
  readonly scalarScale?: number;
  /** Whether the projection has a bias `b`; the official ViT ties it to that of queries and keys. Default true. */
  readonly projectionBias?: boolean;
  readonly rng: Rng;
  /** Of the weight. Default a truncated normal of standard deviation 0.02. */
  readonly init?: Initializer;
}

/**
 * How attention meets vectors `e` of positions: `[pq | pk] = W e + b`, split into heads, and then `q pq`, `k pk`
 * (`attn_mul`), `q + pq`, `k + pk` (`attn_add`) or logits `(q k^T + scalarScale pq pk^T) / sqrt(headDim)` (`attn_scalar`).
 * With fewer key heads than heads there are as many parts of `pk`.
 *
 * Source: SeqPE (2025, arXiv 2506.13277).
 */
export class PositionInjection extends Module<[Tensor, Tensor?], [Tensor, Tensor]> {
  /** `weight: [(heads + kvHeads) peDim / heads, peDim]`, or `[2 peDim, peDim]` without `perHead`. */
  readonly pe_qk: Linear;
  readonly mode: PositionInjectionOptions['mode'];
  readonly #heads: number;
  /** Of `pq` and of `pk`: 1 where all heads have the whole. */
  readonly #parts: readonly [number, number];
  readonly #width: number;
  readonly #scale: number;

  /** @throws ConfigError for an option out of range, or vectors that do not fit the heads. */
  constructor(options: PositionInjectionOptions) {
    super();
    const owner = 'PositionInjection';
    checkOptions(owner, options);
    const { mode, peDim, heads, kvHeads = heads, perHead = true, scalarScale = 1, projectionBias = true } = options;
    const { init = truncNormal_({ std: 0.02 }), headDim = mode === 'attn_scalar' ? Number.NaN : peDim / heads } =
      options;
    const rng = checkRng(owner, options.rng);
    checkChoice(owner, 'mode', mode, ['attn_mul', 'attn_add', 'attn_scalar'] as const);
    if (Number.isNaN(headDim)) {
      throw new ConfigError(`${owner}: headDim is missing; attn_scalar needs that of queries and keys to scale by.`);
    }
    const sizes = { peDim, heads, kvHeads, 'headDim (peDim / heads)': headDim };
    for (const [name, value] of Object.entries(sizes)) checkInteger(owner, name, value);
    checkNumber(`${owner}: scalarScale`, scalarScale, { above: 0 });
    if (heads % kvHeads !== 0) {
      throw new ConfigError(`${owner}: kvHeads is ${kvHeads}; it must divide heads, ${heads}.`);
    }
    if (perHead && peDim % heads !== 0) {
      throw new ConfigError(`${owner}: heads is ${heads}; it must divide peDim, ${peDim}, or perHead be false.`);
    }
    const width = perHead ? peDim / heads : peDim;
    if (mode !== 'attn_scalar' && width !== headDim) {
      throw new ConfigError(
        `${owner}: headDim is ${headDim}; in mode '${mode}' it must be ${width}, ` +
          `${perHead ? 'peDim / heads' : 'peDim, as perHead is false'}.`,
      );
    }
    this.mode = mode;
    this.#heads = heads;
    this.#parts = perHead ? [heads, kvHeads] : [1, 1];
    this.#width = width;
    this.#scale = scalarScale / Math.sqrt(headDim);
    const [queries, keys] = this.#parts;
    const linear = { bias: projectionBias, init, biasInit: zeros_(), rng: rng.fork('pe_qk') };
    this.pe_qk = new Linear(peDim, (queries + keys) * width, linear);
  }

  /**
   * `pq` and `pk`, `[..., parts, seq, width]` with a part for each head or a single one, of the positions of queries and
   * keys.
   * @param qPe `[..., q, peDim]`. @param kPe `[..., k, peDim]`. Default `qPe`.
   */
  override forward(qPe: Tensor, kPe: Tensor = qPe): [Tensor, Tensor] {
    return tidy(() => {
      const both = this.pe_qk.apply(qPe);
      const [queries, keys] = this.#parts;
      return [this.#split(both, 0, queries), this.#split(kPe === qPe ? both : this.pe_qk.apply(kPe), queries, keys)];
    });
  }

  /**
   * Queries and keys with their positions: products or sums; in `attn_scalar` as they are.
   * @param q `[batch, heads, q, headDim]`. @param k `[batch, kvHeads, k, headDim]`.
   */
  modulate(q: Tensor, k: Tensor, pq: Tensor, pk: Tensor): [Tensor, Tensor] {
    if (this.mode === 'attn_scalar') return [q, k];
    for (const [x, positions] of [
      [q, pq],
      [k, pk],
    ]) {
      const [parts, ...own] = positions.shape.slice(-3);
      const [heads, ...given] = x.shape.slice(-3);
      if (String(own) === String(given) && (parts === 1 || parts === heads)) continue;
      throw new ShapeError(
        `PositionInjection: queries and keys must be as their positions in heads, length and headDim, not [${x.shape}] ` +
          `with [${positions.shape}].`,
      );
    }
    const act = this.mode === 'attn_mul' ? mul : add;
    return [act(q, pq), act(k, pk)];
  }

  /** What `attn_scalar` adds to the logits, `[..., heads, q, k]`. */
  bias(pq: Tensor, pk: Tensor): Tensor {
    const spread = (x: Tensor): Tensor => repeatInterleave(x, this.#heads / x.shape[x.rank - 3], x.rank - 3);
    return tidy(() => matMul(mul(spread(pq), this.#scale), spread(pk), false, true));
  }

  /** `parts` parts from the `first` on, `[..., parts, seq, width]`. */
  #split(projected: Tensor, first: number, parts: number): Tensor {
    const [width, rank] = [this.#width, projected.rank];
    const begin = [...Array(rank - 1).fill(0), first * width];
    const own = slice(projected, begin, [...projected.shape.slice(0, -1), parts * width]);
    const split = reshape(own, [...projected.shape.slice(0, -1), parts, width]);
    return transpose(split, [...Array(rank - 2).keys(), rank - 1, rank - 2, rank]);
  }
}
