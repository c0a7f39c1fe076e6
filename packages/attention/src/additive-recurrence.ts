import {
  add,
  cast,
  concat,
  exp,
  expandDims,
  greater,
  log,
  maximum,
  mul,
  reshape,
  ShapeError,
  slice,
  stopGradient,
  sub,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { associativeScan } from './associative-scan.ts';
import { decayedScan } from './decayed-scan.ts';

/** The lowest number of float32. */
const LOWEST = -3.4028234663852886e38;

/** What tokens leave to those after them. */
export interface RecurrenceState {
  /** `[b, h, d, e]`: the mean of `k v^T` over the tokens so far, weighted by `exp(g)`. */
  readonly s: Tensor;
  /** `[b, h, d]`: the logarithm of the sum of `exp(g)`. */
  readonly logsum: Tensor;
}

/**
 * Additive linear recurrence: `o_t = q_t^T [sum_{j <= t} exp(g_j) k_j v_j^T] / [sum_{j <= t} exp(g_j)]`, the division for each
 * key channel. Instead of multiplying decays it adds up weights: the state is a mean over all tokens so far. Exact, of cost
 * linear in `n`; logits of any size that float32 holds do not overflow. A logit of
 * `-Infinity` is a token of no weight; a channel whose tokens so far have none gives 0.
 *
 * Source: LightNet, "You Only Scan Once: Efficient Multi-dimension Sequential Modeling with LightNet" (2024, arXiv 2405.21022).
 * @param q, k, g `[b, h, n, d]`. @param v `[b, h, n, e]`.
 * @returns `output` `[b, h, n, e]` and the state to go on from.
 * @throws ShapeError if the shapes do not fit.
 */
export function additiveRecurrence(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  g: Tensor,
  { initialState }: { initialState?: RecurrenceState } = {},
): { output: Tensor; state: RecurrenceState } {
  checkRecurrence(q, k, v, g, initialState);
  return tidy(() => {
    // Of infinite logits the differences would be NaN.
    const logits = maximum(g, LOWEST);
    const z = logCumSumExp(logits, initialState?.logsum);
    const weights = mul(exp(sub(logits, z)), cast(greater(g, LOWEST), 'float32'));
    const initial = initialState && { s: initialState.s, z: initialState.logsum };
    const { output, s } = decayedScan(q, mul(k, weights), v, z, initial);
    return { output, state: { s, logsum: lastToken(z) } };
  });
}

/** `z_t = log(exp(before) + sum_{j <= t} exp(g_j))` over the tokens of `[b, h, n, d]`; `before` is `[b, h, d]`. */
export function logCumSumExp(g: Tensor, before?: Tensor): Tensor {
  const [batch, heads, length, width] = g.shape as [number, number, number, number];
  return tidy(() => {
    const all = before === undefined ? g : concat([expandDims(before, 2), g], 2);
    const rows = reshape(all, [batch * heads, -1, width]);
    const [sums] = associativeScan([rows], ([left], [right]) => [logAddExp(left, right)]);
    return reshape(slice(sums, [0, before === undefined ? 0 : 1, 0]), [batch, heads, length, width]);
  });
}

function logAddExp(a: Tensor, b: Tensor): Tensor {
  const top = stopGradient(maximum(a, b));
  return add(top, log(add(exp(sub(a, top)), exp(sub(b, top)))));
}

/** `[b, h, n, d]` to `[b, h, d]`. */
export function lastToken(x: Tensor): Tensor {
  const [batch, heads, length, width] = x.shape as [number, number, number, number];
  return reshape(slice(x, [0, 0, length - 1, 0], [-1, -1, 1, -1]), [batch, heads, width]);
}

function checkRecurrence(q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: RecurrenceState | undefined): void {
  const [batch, heads, , width] = q.shape;
  const fit =
    q.rank === 4 &&
    v.rank === 4 &&
    [k, g].every(({ shape }) => String(shape) === String(q.shape)) &&
    String(v.shape.slice(0, 3)) === String(q.shape.slice(0, 3));
  if (!fit || q.shape[2] === 0) {
    throw new ShapeError(
      'additiveRecurrence takes q, k and g [b, h, n, d] and v [b, h, n, e] of at least one token, not ' +
        `[${q.shape}], [${k.shape}], [${g.shape}] and [${v.shape}].`,
    );
  }
  if (state === undefined) return;
  const { s, logsum } = state;
  const [sShape, logsumShape] = [
    [batch, heads, width, v.shape[3]],
    [batch, heads, width],
  ];
  if (String(s.shape) !== String(sShape) || String(logsum.shape) !== String(logsumShape)) {
    throw new ShapeError(
      `additiveRecurrence: initialState must be s [${sShape}] and logsum [${logsumShape}], not [${s.shape}] and ` +
        `[${logsum.shape}].`,
    );
  }
}
