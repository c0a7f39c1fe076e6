import {
  add,
  cast,
  concat,
  cumsum,
  div,
  elu,
  matMul,
  mul,
  ones,
  pad,
  reshape,
  ShapeError,
  slice,
  split,
  type Tensor,
  tidy,
  tril,
} from '@ashlar/tensor';

const CHUNK = 64;

export interface LinearAttentionOptions {
  /** Whether a token sees only those up to itself. Default false. */
  readonly causal?: boolean;
  /** `[b, n]`, 1 or true for tokens that may be seen. Default all. */
  readonly mask?: Tensor;
  /** Added to the denominator. Default 1e-6. */
  readonly eps?: number;
}

/**
 * Linear attention: `o_t = phi(q_t)^T sum_s phi(k_s) v_s^T / (phi(q_t)^T sum_s phi(k_s) + eps)` with `phi(x) = elu(x) + 1`;
 * causal, the sums run over `s <= t`, in chunks of 64 tokens. Of cost linear in the tokens either way.
 *
 * Source: Katharopoulos et al., "Transformers are RNNs" (2020, arXiv 2006.16236).
 * @param q, k `[b, h, n, d]`; not causal, there may be other numbers of queries and keys. @param v `[b, h, n, e]`.
 * @returns `[b, h, n, e]`.
 * @throws ShapeError if the shapes do not fit.
 */
export function linearAttention(q: Tensor, k: Tensor, v: Tensor, options: LinearAttentionOptions = {}): Tensor {
  const { causal = false, mask, eps = 1e-6 } = options;
  checkShapes(q, k, v, causal, mask);
  const [batch, heads, length] = k.shape as [number, number, number];
  const values = v.shape[3] as number;
  return tidy(() => {
    const features = (x: Tensor): Tensor => add(elu(x), 1);
    const keys =
      mask === undefined ? features(k) : mul(features(k), reshape(cast(mask, 'float32'), [batch, 1, length, 1]));
    // A column of ones adds up the denominator beside the numerators.
    const counted = concat([v, ones([batch, heads, length, 1])], 3);
    const sums = causal
      ? causalSums(features(q), keys, counted)
      : matMul(features(q), matMul(keys, counted, true, false));
    const [numerator, denominator] = split(sums, [values, 1], 3);
    return div(numerator, add(denominator, eps));
  });
}

/** `q_t^T sum_{s <= t} k_s v_s^T`. */
function causalSums(q: Tensor, k: Tensor, v: Tensor): Tensor {
  const [batch, heads, length, values] = v.shape as [number, number, number, number];
  const chunk = Math.min(CHUNK, length);
  const missing = (chunk - (length % chunk)) % chunk;
  const inChunks = (x: Tensor): Tensor =>
    reshape(
      missing === 0
        ? x
        : pad(x, [
            [0, 0],
            [0, 0],
            [0, missing],
            [0, 0],
          ]),
      [batch * heads, -1, chunk, x.shape[3] as number],
    );
  const [qs, ks, vs] = [q, k, v].map(inChunks);
  const before = cumsum(matMul(ks, vs, true, false), 1, true);
  const within = matMul(tril(matMul(qs, ks, false, true)), vs);
  const all = reshape(add(within, matMul(qs, before)), [batch, heads, -1, values]);
  return slice(all, [0, 0, 0, 0], [-1, -1, length, -1]);
}

function checkShapes(q: Tensor, k: Tensor, v: Tensor, causal: boolean, mask: Tensor | undefined): void {
  const [batch, heads, length, width] = k.shape;
  const fit =
    [q, k, v].every(({ rank, shape }) => rank === 4 && shape[0] === batch && shape[1] === heads) &&
    q.shape[3] === width &&
    v.shape[2] === length &&
    (!causal || q.shape[2] === length) &&
    (mask === undefined || String(mask.shape) === String([batch, length]));
  if (!fit) {
    throw new ShapeError(
      'linearAttention takes q and k [b, h, n, d], v [b, h, n, e] and a mask [b, n], as many queries as keys where it is ' +
        `causal; not [${q.shape}], [${k.shape}], [${v.shape}]${mask === undefined ? '' : ` and [${mask.shape}]`}.`,
    );
  }
}
