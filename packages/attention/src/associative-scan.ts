import { concat, pad, reshape, slice, stack, type Tensor, unstack } from '@ashlar/tensor';

/**
 * All prefixes `x_0`, `x_0 ∘ x_1`, `x_0 ∘ x_1 ∘ x_2` … along axis 1, of work linear in its length and logarithmic depth.
 * @param elements the tensors that an element consists of, all as long along axis 1.
 * @param combine associative, element by element along axis 1; the earlier elements come first.
 *
 * Source: Blelloch, "Prefix sums and their applications" (1990).
 */
export function associativeScan(elements: Tensor[], combine: (left: Tensor[], right: Tensor[]) => Tensor[]): Tensor[] {
  const length = elements[0].shape[1] as number;
  if (length === 1) return elements;
  const pairs = elements.map((x) => inPairs(x, length));
  const [first, second] = [0, 1].map((i) => pairs.map((pair) => pair[i]));
  const half = first[0].shape[1] as number;
  const odd = associativeScan(combine(first, second), combine);
  const start = first.map((x) => rows(x, 0, 1));
  const rest =
    half === 1
      ? undefined
      : combine(
          odd.map((x) => rows(x, 0, half - 1)),
          first.map((x) => rows(x, 1, half - 1)),
        );
  return odd.map((x, i) => {
    const even = rest === undefined ? start[i] : concat([start[i], rest[i]], 1);
    const both = reshape(stack([even, x], 2), [x.shape[0], 2 * half, ...x.shape.slice(2)]);
    return length === 2 * half ? both : rows(both, 0, length);
  });
}

/** The elements of even and those of odd index; where one is missing at the end it is zeros. */
function inPairs(x: Tensor, length: number): Tensor[] {
  const even = length % 2 === 0 ? x : pad(x, [[0, 0], [0, 1], ...x.shape.slice(2).map((): [number, number] => [0, 0])]);
  return unstack(reshape(even, [x.shape[0], -1, 2, ...x.shape.slice(2)]), 2);
}

const rows = (x: Tensor, from: number, count: number): Tensor =>
  slice(x, [0, from, ...x.shape.slice(2).map(() => 0)], [-1, count, ...x.shape.slice(2).map(() => -1)]);
