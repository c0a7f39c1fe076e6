import { add, type PositionEncoding, range, ShapeError, type Tensor } from '@ashlar/tensor';

/**
 * Tokens `[batch, seq, dim]` with the encoding's `embed` of places 0, 1 … added, or as they are if it has none.
 * @throws ShapeError if it is of another width.
 */
export function addPositions(owner: string, x: Tensor, encoding: PositionEncoding | undefined): Tensor {
  const [, seq, dim] = x.shape as [number, number, number];
  const places = encoding?.embed?.(range(0, seq, 1, 'int32'));
  if (places === undefined) return x;
  if (String(places.shape) !== String([seq, dim])) {
    throw new ShapeError(`${owner}: the encoding's embed must be [${seq}, ${dim}] here; it is [${places.shape}].`);
  }
  return add(x, places);
}
