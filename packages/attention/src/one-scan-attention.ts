import { MASKED } from '@ashlar/nn';
import {
  cast,
  einsum,
  mul,
  reshape,
  ShapeError,
  silu,
  softmax,
  sub,
  type Tensor,
  tidy,
  transpose,
} from '@ashlar/tensor';

/**
 * LightNet's attention over a whole image or text: `O = silu(Q) (K~^T V)` for each head, with `K~` the softmax of `K` over
 * the TOKENS, channel by channel. Of cost linear in the tokens, and blind to their order: that comes from encodings.
 *
 * `reconstructed`: the limit of the causal layer in which every token sees the last sum.
 *
 * Source: "You Only Scan Once: Efficient Multi-dimension Sequential Modeling with LightNet" (2024, arXiv 2405.21022).
 * @param q, k `[b, n, h, d]`. @param v `[b, n, h, e]`.
 * @param options.mask `[b, n]`, 1 or true for tokens to keep. Where a row keeps none, the result is 0.
 * @returns `[b, n, h, e]`.
 * @throws ShapeError if the shapes do not fit.
 */
export function oneScanAttention(q: Tensor, k: Tensor, v: Tensor, { mask }: { mask?: Tensor } = {}): Tensor {
  const [batch, length, heads] = k.shape;
  const fit =
    q.rank === 4 &&
    v.rank === 4 &&
    [0, 2, 3].every((axis) => q.shape[axis] === k.shape[axis]) &&
    String(v.shape.slice(0, 3)) === String([batch, length, heads]) &&
    (mask === undefined || String(mask.shape) === String([batch, length]));
  if (!fit) {
    throw new ShapeError(
      'oneScanAttention takes q [b, n, h, d], k [b, n, h, d], v [b, n, h, e] and a mask [b, n], not ' +
        `[${q.shape}], [${k.shape}], [${v.shape}]${mask === undefined ? '' : ` and [${mask.shape}]`}.`,
    );
  }
  return tidy(() => {
    const kept = mask && reshape(mask, [batch, length, 1, 1]);
    const state = einsum('bnhd,bnhe->bhde', tokenSoftmax(k, 1, kept), v);
    return einsum('bnhd,bhde->bnhe', silu(q), state);
  });
}

/**
 * Softmax of rank-4 logits over the tokens, which are `axis`.
 * @param mask broadcasts to the logits; what it hides gets 0, also where it hides all.
 */
export function tokenSoftmax(logits: Tensor, axis: 1 | 2, mask?: Tensor): Tensor {
  return tidy(() => {
    const keep = mask && cast(mask, 'float32');
    const shown = keep === undefined ? logits : hide(logits, keep);
    const order = axis === 1 ? [0, 2, 3, 1] : [0, 1, 3, 2];
    const back = axis === 1 ? [0, 3, 1, 2] : [0, 1, 3, 2];
    const weights = transpose(softmax(transpose(shown, order)), back);
    return keep === undefined ? weights : mul(weights, keep);
  });
}

/** Logits with `MASKED` where `keep`, which broadcasts to them, is 0. */
export function hide(logits: Tensor, keep: Tensor): Tensor {
  return sub(mul(logits, keep), mul(sub(1, keep), -MASKED));
}
