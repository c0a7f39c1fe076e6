import {
  add,
  matMul,
  mul,
  type PositionEncoding,
  repeatInterleave,
  reshape,
  ShapeError,
  softmax,
  type Tensor,
  tensor2d,
} from '@ashlar/tensor';
import type { Dropout } from './dropout.ts';

export interface AttendOptions {
  /** How logits know of positions; default not at all. */
  encoding?: PositionEncoding;
  /** `[q]` or `[q, axes]`. */
  qPositions: Tensor;
  /** `[k]` or `[k, axes]`. */
  kPositions: Tensor;
  /** Index of the layer, for encodings with parameters per layer. Default 0. */
  layer?: number;
  /**
   * Whether a query sees only keys up to itself, by order in the sequence (not by position): queries are taken to be the
   * last `q` of the `k` tokens, as with a key-value cache. Default false.
   */
  causal?: boolean;
  /** Added to the logits: anything that broadcasts to `[batch, heads, q, k]`; -1e9 hides a key. */
  mask?: Tensor;
  /** Default `1 / sqrt(headDim)`. */
  scale?: number;
  /** Applied to the attention weights. */
  dropout?: Dropout;
}

/**
 * Scaled dot-product attention, `softmax(scale q k^T + bias + mask) v`, with any position encoding.
 *
 * Grouped-query attention: `kvHeads` divides `heads`, and each key head serves the `heads / kvHeads` consecutive query
 * heads; keys and values are not copied unless the encoding computes the logits itself.
 * @param q `[batch, heads, q, headDim]`, unrotated. @param k `[batch, kvHeads, k, headDim]`, unrotated.
 * @param v `[batch, kvHeads, k, valueDim]`.
 * @returns `[batch, heads, q, valueDim]`. Runs inside a `tidy`.
 * @throws ShapeError if the shapes do not fit each other.
 */
export function attend(q: Tensor, k: Tensor, v: Tensor, options: AttendOptions): Tensor {
  const [batch, heads, qLength, headDim] = q.shape;
  const [kBatch, kvHeads, kLength, kDim] = k.shape;
  const fits =
    q.rank === 4 && k.rank === 4 && v.rank === 4 && batch === kBatch && headDim === kDim && heads % kvHeads === 0;
  if (!fits || String(v.shape.slice(0, 3)) !== String(k.shape.slice(0, 3))) {
    throw new ShapeError(
      `attend takes q [batch, heads, q, dim] and k, v [batch, kvHeads, k, dim] with kvHeads dividing heads, not ` +
        `[${q.shape}], [${k.shape}], [${v.shape}].`,
    );
  }
  const { encoding, qPositions, kPositions, layer = 0, causal = false, mask, dropout } = options;
  const { scale = 1 / Math.sqrt(headDim) } = options;
  const context = { layer };
  const groups = heads / kvHeads;
  let logits: Tensor;
  if (encoding?.scores !== undefined) {
    logits = encoding.scores(q, repeatInterleave(k, groups, 1), qPositions, kPositions, context);
  } else {
    const [rq, rk] = encoding?.rotate?.(q, k, qPositions, kPositions, context) ?? [q, k];
    const grouped = reshape(mul(rq, scale), [batch, kvHeads, groups * qLength, headDim]);
    logits = reshape(matMul(grouped, rk, false, true), [batch, heads, qLength, kLength]);
    if (encoding?.bias !== undefined) logits = add(logits, encoding.bias(qPositions, kPositions, context));
  }
  // One query at the end sees everything.
  if (causal && qLength > 1) logits = add(logits, causalMask(qLength, kLength));
  if (mask !== undefined) logits = add(logits, mask);
  const probabilities = softmax(logits, -1);
  const weights = dropout === undefined ? probabilities : dropout.apply(probabilities);
  const mixed = matMul(reshape(weights, [batch, kvHeads, groups * qLength, kLength]), v);
  return reshape(mixed, [batch, heads, qLength, v.shape[3] as number]);
}

/** What hides a key from a query. Finite, so that a row that sees nothing gives no NaN. */
const HIDDEN = -1e9;

const MASKS_KEPT = 8;
const masks = new Map<string, Float32Array>();

/** `[q, k]`: 0 where key `j` is visible to query `i`, `j <= k - q + i`, and -1e9 elsewhere. */
function causalMask(qLength: number, kLength: number): Tensor {
  const key = `${qLength},${kLength}`;
  let values = masks.get(key);
  if (values === undefined) {
    values = new Float32Array(qLength * kLength);
    for (let i = 0; i < qLength; i++) values.fill(HIDDEN, i * kLength + kLength - qLength + i + 1, (i + 1) * kLength);
    if (masks.size >= MASKS_KEPT) masks.delete(masks.keys().next().value as string);
    masks.set(key, values);
  }
  return tensor2d(values, [qLength, kLength]);
}
