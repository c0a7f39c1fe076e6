import { cast, greater, mul, reshape, ShapeError, type Tensor, tensor2d } from '@ashlar/tensor';

/** Added to a logit that must not count: large enough to make its weight 0 exactly, small enough to add up finite. */
export const MASKED = -1e30;

/** The last masks made, oldest first. Kept on the host, so that nothing has to be disposed of and any backend may ask. */
const kept = new Map<string, Float32Array>();
const MOST_KEPT = 8;

/**
 * `[queries, keys]`, to be added to logits: 0 where query `i` may see key `j`, `MASKED` elsewhere. The queries are the
 * last `queries` of the `keys` tokens: `j <= i + keys - queries`. Undefined where nothing is masked.
 */
export function causalMask(queries: number, keys: number): Tensor | undefined {
  if (queries > keys) {
    throw new ShapeError(`Causal attention needs a key for each query: ${queries} queries, ${keys} keys.`);
  }
  if (queries === 1) return undefined;
  const name = `${queries},${keys}`;
  const values = kept.get(name) ?? triangle(queries, keys);
  kept.delete(name);
  kept.set(name, values);
  if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value as string);
  return tensor2d(values, [queries, keys]);
}

function triangle(queries: number, keys: number): Float32Array {
  const values = new Float32Array(queries * keys);
  for (let i = 0; i < queries; i++) values.fill(MASKED, i * keys + i + keys - queries + 1, (i + 1) * keys);
  return values;
}

/** As `causalMask`, by position: a query may see the keys whose position is at most its own. */
export function positionMask(qPositions: Tensor, kPositions: Tensor): Tensor {
  const column = reshape(qPositions, [-1, 1]);
  return mul(cast(greater(reshape(kPositions, [1, -1]), column), 'float32'), MASKED);
}
