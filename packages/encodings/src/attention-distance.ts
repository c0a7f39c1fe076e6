import {
  add,
  checkChoice,
  expandDims,
  log,
  maximum,
  mean,
  mul,
  ShapeError,
  sub,
  sum,
  type Tensor,
  type Tensor2D,
  tidy,
  tril,
} from '@ashlar/tensor';

/**
 * With `m = (p + q) / 2`. `'symmetric-kl'`: `KL(p||q) + KL(q||p)`. `'jensen-shannon'`: `(KL(p||m) + KL(q||m)) / 2`.
 * `'reversed-jensen-shannon'`: `(KL(m||p) + KL(m||q)) / 2`, which the released analysis of the length generalization
 * study computes by the order of its arguments.
 */
export type AttentionDistanceKind = 'symmetric-kl' | 'jensen-shannon' | 'reversed-jensen-shannon';

/** Probabilities below it count as it in logarithms: float32 attention underflows to 0. Its square does not underflow. */
const FLOOR = 1e-18;

/** `sum_x a log(a / b)` over the last axis. */
const divergence = (a: Tensor, b: Tensor): Tensor =>
  sum(mul(a, sub(log(maximum(a, FLOOR)), log(maximum(b, FLOOR)))), -1);

const DISTANCES: Record<AttentionDistanceKind, (p: Tensor, q: Tensor) => Tensor> = {
  'symmetric-kl': (p, q) => add(divergence(p, q), divergence(q, p)),
  'jensen-shannon': (p, q) => {
    const m = mul(0.5, add(p, q));
    return mul(0.5, add(divergence(p, m), divergence(q, m)));
  },
  'reversed-jensen-shannon': (p, q) => {
    const m = mul(0.5, add(p, q));
    return mul(0.5, add(divergence(m, p), divergence(m, q)));
  },
};

/**
 * How differently two models attend to the same input: for each pair of heads the divergence of a query's probabilities
 * over the keys up to it, in nats, in mean over the queries. The study reports the smallest over pairs.
 *
 * Source: Kazemnejad et al. 2023, arXiv 2305.19466.
 * @param a `[headsA, seq, seq]`, causal attention: rows sum to 1, keys after the query do not count.
 * @param b `[headsB, seq, seq]`.
 * @param options.kind default `'jensen-shannon'`.
 * @returns `[headsA, headsB]`.
 * @throws ShapeError unless the maps are square and of one size; ConfigError for an unknown kind.
 */
export function attentionDistance(
  a: Tensor,
  b: Tensor,
  options: { readonly kind?: AttentionDistanceKind } = {},
): Tensor2D {
  const { kind = 'jensen-shannon' } = options;
  checkChoice('attentionDistance', 'kind', kind, Object.keys(DISTANCES) as AttentionDistanceKind[]);
  const seq = a.shape[1];
  if ([a, b].some(({ rank, shape }) => rank !== 3 || shape[1] !== seq || shape[2] !== seq)) {
    throw new ShapeError(
      `attentionDistance: the maps are [${a.shape}] and [${b.shape}]; they must be [heads, seq, seq] of one seq.`,
    );
  }
  return tidy(() => mean(DISTANCES[kind](expandDims(tril(a), 1), expandDims(tril(b), 0)), -1) as Tensor2D);
}
