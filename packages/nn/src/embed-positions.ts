import { add, type PositionEncoding, range, ShapeError, type Tensor, util } from '@ashlar/tensor';

/**
 * `tokens`, `[batch, seq, width]`, with what `encoding` adds to them before the first layer: its `embed`, if it has one.
 * @param owner named in errors.
 * @param positions of the tokens. Default 0, 1 …
 * @throws ShapeError unless that is `[seq, width]`.
 */
export function embedPositions(
  owner: string,
  tokens: Tensor,
  encoding: PositionEncoding | undefined,
  positions: Tensor = range(0, tokens.shape[1] as number, 1, 'int32'),
): Tensor {
  const embedded = encoding?.embed?.(positions);
  if (embedded === undefined) return tokens;
  const [, ...expected] = tokens.shape;
  if (!util.arraysEqual(embedded.shape, expected)) {
    throw new ShapeError(
      `${owner}: its encoding adds [${embedded.shape}] to tokens [seq, width] of [${expected}]; ` +
        'give an encoding of that width, and a position for each token.',
    );
  }
  return add(tokens, embedded);
}
