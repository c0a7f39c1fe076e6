import {
  add,
  concat,
  engine,
  type GradConfig,
  getBackend,
  getKernel,
  mul,
  neg,
  reshape,
  split,
  sub,
  sum,
  type Tensor,
  tidy,
} from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.ts';

/** The kernel's name; a backend that registers it takes `x`, `cosines` and `sines` and the attribute `interleaved`. */
const KERNEL = 'RotaryEmbedding';

/**
 * Turns the pairs of channels of each row by an angle of their own: `(a, b)` becomes `(a cos - b sin, b cos + a sin)`.
 * One kernel where the backend has it.
 *
 * Source: Su et al., "RoFormer" (2021, arXiv 2104.09864).
 * @param x `[.., rows, 2 pairs]`.
 * @param cosines `[rows, pairs]`, of the angles, as are the sines.
 * @param options.interleaved whether channels `2i` and `2i + 1` are a pair; default `i` and `i + pairs`.
 * @returns a tensor of `x`'s shape.
 * @throws ShapeError if the shapes do not fit.
 */
export function rotaryEmbedding(
  x: Tensor,
  cosines: Tensor,
  sines: Tensor,
  options: { interleaved?: boolean } = {},
): Tensor {
  const { interleaved = false } = options;
  const [rows, pairs] = cosines.shape;
  const fit =
    x.rank >= 2 &&
    [cosines, sines].every(({ shape }) => shape.length === 2 && shape[0] === rows && shape[1] === pairs) &&
    x.shape[x.rank - 2] === rows &&
    x.shape[x.rank - 1] === 2 * pairs;
  if (!fit) {
    throw new ShapeError(
      'rotaryEmbedding needs x [.., rows, 2 pairs], cosines and sines [rows, pairs]; ' +
        `not [${x.shape}], [${cosines.shape}] and [${sines.shape}].`,
    );
  }
  if (getKernel(KERNEL, getBackend()) !== undefined) {
    return engine().runKernel(KERNEL, { x, cosines, sines }, { interleaved }) as Tensor;
  }
  return tidy(() => {
    const { a, b, axis, table } = pairsOf(x, interleaved);
    const [c, s] = [reshape(cosines, table), reshape(sines, table)];
    return reshape(concat([sub(mul(a, c), mul(b, s)), add(mul(b, c), mul(a, s))], axis), x.shape);
  });
}

interface Pairs {
  a: Tensor;
  b: Tensor;
  /** Along which they are neighbours. */
  axis: number;
  /** The shape of a table that broadcasts to either. */
  table: number[];
}

function pairsOf(x: Tensor, interleaved: boolean): Pairs {
  const [rows, width] = x.shape.slice(-2);
  const pairs = width / 2;
  const axis = interleaved ? 3 : 2;
  const [a, b] = split(reshape(x, [-1, rows, ...(interleaved ? [pairs, 2] : [2, pairs])]), 2, axis);
  return { a, b, axis, table: [rows, ...(interleaved ? [pairs, 1] : [1, pairs])] };
}

/** The gradients; those of the tables are computed only where positions are differentiated. */
export const rotaryEmbeddingGradient: GradConfig = {
  kernelName: KERNEL,
  inputsToSave: ['x', 'cosines', 'sines'],
  gradFunc(dy, [x, cosines, sines], attrs) {
    const { interleaved } = attrs as unknown as { interleaved: boolean };
    const ofTable = (combine: (x: Pairs, dy: Pairs) => Tensor): Tensor =>
      reshape(sum(combine(pairsOf(x, interleaved), pairsOf(dy as Tensor, interleaved)), 0), cosines.shape);
    return {
      x: () => rotaryEmbedding(dy as Tensor, cosines, neg(sines), { interleaved }),
      cosines: () => ofTable((x, dy) => add(mul(dy.a, x.a), mul(dy.b, x.b))),
      sines: () => ofTable((x, dy) => sub(mul(dy.b, x.a), mul(dy.a, x.b))),
    };
  },
};
