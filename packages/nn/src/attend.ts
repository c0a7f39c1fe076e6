import {
  add,
  cast,
  type Module,
  matMul,
  mul,
  type PositionEncoding,
  range,
  repeatInterleave,
  reshape,
  ShapeError,
  softmax,
  sub,
  type Tensor,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { causalMask, MASKED, positionMask } from './causal-mask.ts';

export interface AttendOptions {
  /** Default none. */
  encoding?: PositionEncoding;
  /** `[q]` or `[q, axes]`. Default: the queries are the last of the keys. */
  qPositions?: Tensor;
  /** `[k]` or `[k, axes]`. Default 0, 1 … */
  kPositions?: Tensor;
  /** Index of the layer, which the encoding is told. Default 0. */
  layer?: number;
  /**
   * `true`: the queries are the last of the keys, and none sees a later key (by index: right also where positions repeat
   * or are no integers). `'position'`: a query sees the keys whose position, of one axis, is at most its own. Default
   * false.
   */
  causal?: boolean | 'position';
  /**
   * Broadcasts to `[batch, heads, q, k]`. bool: true where a query may see a key; float32: added to the logits. A query
   * that a bool mask lets see nothing gets a finite, meaningless result.
   */
  mask?: Tensor;
  /** What the products of queries and keys are multiplied by. Default `1 / sqrt(headDim)`, of `q` before the encoding. */
  scale?: number;
  /** Applied to the attention weights. */
  dropout?: Module;
}

/**
 * Scaled dot-product attention, `softmax(scale q k^T + bias + mask) v`, with the position encoding's `rotate` applied to
 * `q` and `k` before and its `bias` added after scaling; or with the encoding's own `scores` in place of all that, `scale`
 * included.
 *
 * There may be fewer key heads than query heads (grouped-query attention): query heads `h g .. h g + g - 1` share key
 * head `h`, which is not copied for them unless the encoding computes the scores.
 *
 * Source: Vaswani et al. 2017, arXiv 1706.03762; Ainslie et al. 2023, arXiv 2305.13245 (grouped queries).
 * @param q `[batch, heads, q, headDim]`.
 * @param k `[batch, kvHeads, k, headDim]`.
 * @param v `[batch, kvHeads, k, valueDim]`.
 * @returns `[batch, heads, q, valueDim]`.
 * @throws ShapeError if the shapes do not fit, also those that the encoding returns.
 */
export function attend(q: Tensor, k: Tensor, v: Tensor, options: AttendOptions = {}): Tensor {
  checkShapes(q, k, v, options);
  const [batch, heads, queries, headDim] = q.shape;
  const [, kvHeads, keys] = k.shape;
  const grouped = [batch, kvHeads, (heads / kvHeads) * queries];
  const { encoding, layer = 0, dropout } = options;
  return tidy(() => {
    const kPositions = options.kPositions ?? range(0, keys, 1, 'int32');
    const qPositions = options.qPositions ?? range(keys - queries, keys, 1, 'int32');
    const context = { layer };
    const products = (): Tensor => {
      const [qs, ks] = encoding?.rotate?.(q, k, qPositions, kPositions, context) ?? [q, k];
      checkAnswer('rotate', qs, [...q.shape.slice(0, 3), qs.shape[3] as number]);
      checkAnswer('rotate', ks, [...k.shape.slice(0, 3), qs.shape[3] as number]);
      const scaled = mul(qs, options.scale ?? 1 / Math.sqrt(headDim));
      // An encoding may return both wider than they were.
      const rows = reshape(scaled, [...grouped, scaled.shape[3] as number]);
      return reshape(matMul(rows, ks, false, true), [batch, heads, queries, keys]);
    };
    const logits =
      encoding?.scores?.(q, repeatInterleave(k, heads / kvHeads, 1), qPositions, kPositions, context) ?? products();
    checkAnswer('scores', logits, [batch, heads, queries, keys]);
    const bias = encoding?.scores === undefined ? encoding?.bias?.(qPositions, kPositions, context) : undefined;
    if (bias !== undefined) checkAnswer('bias', bias, [heads, queries, keys]);
    // The small terms are added up before they meet the logits.
    const terms = [
      options.causal === 'position' ? positionMask(qPositions, kPositions) : undefined,
      options.causal === true ? causalMask(queries, keys) : undefined,
      options.mask && additive(options.mask),
      bias,
    ].filter((term) => term !== undefined);
    const weights = softmax(terms.length === 0 ? logits : add(logits, terms.reduce(add)));
    const kept = dropout === undefined ? weights : dropout.apply(weights);
    return reshape(matMul(reshape(kept, [...grouped, keys]), v), [batch, heads, queries, v.shape[3] as number]);
  });
}

/** `[batch, seq, heads headDim]` to `[batch, heads, seq, headDim]`. */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [batch, seq, dim] = x.shape as [number, number, number];
  return tidy(() => transpose(reshape(x, [batch, seq, heads, dim / heads]), [0, 2, 1, 3]));
}

/** `[batch, heads, seq, headDim]` to `[batch, seq, heads headDim]`. */
export function mergeHeads(x: Tensor): Tensor {
  const [batch, heads, seq, headDim] = x.shape;
  return tidy(() => reshape(transpose(x, [0, 2, 1, 3]), [batch, seq, heads * headDim]));
}

/** @throws ShapeError for an encoding made for another number of heads, say. */
function checkAnswer(method: string, { shape }: Tensor, expected: number[]): void {
  if (String(shape) === String(expected)) return;
  throw new ShapeError(
    `Attention: the encoding's ${method} must be [${expected}] here; it is [${shape}]. Make it for this layer's heads.`,
  );
}

function additive(mask: Tensor): Tensor {
  return mask.dtype === 'bool' ? mul(sub(1, cast(mask, 'float32')), MASKED) : mask;
}

function checkShapes(q: Tensor, k: Tensor, v: Tensor, { qPositions, kPositions, mask }: AttendOptions): void {
  const [batch, heads, queries, headDim] = q.shape;
  const [kBatch, kvHeads, keys, kDim] = k.shape;
  const fit =
    [q, k, v].every(({ rank }) => rank === 4) &&
    kBatch === batch &&
    kDim === headDim &&
    heads % kvHeads === 0 &&
    [0, 1, 2].every((axis) => v.shape[axis] === k.shape[axis]);
  if (!fit) {
    throw new ShapeError(
      'Attention takes queries [batch, heads, q, headDim], keys [batch, kvHeads, k, headDim] and values ' +
        `[batch, kvHeads, k, valueDim], heads a multiple of kvHeads; not [${q.shape}], [${k.shape}] and [${v.shape}].`,
    );
  }
  for (const [name, positions, length] of [
    ['qPositions', qPositions, queries],
    ['kPositions', kPositions, keys],
  ] as const) {
    if (positions !== undefined && positions.shape[0] !== length) {
      throw new ShapeError(`Attention: ${name} must be [${length}] or [${length}, axes], not [${positions.shape}].`);
    }
  }
  const full = [batch, heads, queries, keys];
  if (mask?.shape.some((size, axis) => size !== 1 && size !== full[axis + 4 - mask.rank])) {
    throw new ShapeError(`Attention: the mask must broadcast to [${full}]; it is [${mask.shape}].`);
  }
}
