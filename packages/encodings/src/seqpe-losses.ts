import {
  add,
  ConfigError,
  checkChoice,
  checkInteger,
  checkNumber,
  crossEntropy,
  exp,
  logSoftmax,
  matMul,
  mean,
  mul,
  reshape,
  type Scalar,
  ShapeError,
  square,
  stopGradient,
  sub,
  type Tensor,
  tidy,
  tile,
  transpose,
} from '@ashlar/tensor';
import { knownValues } from './positions.ts';

export interface ContrastivePositionLossOptions {
  /** Parts that vectors are split into, each with a loss of its own. Default 1. */
  readonly heads?: number;
  /** Of the products. Default 1. */
  readonly logitScale?: number;
  /** Default 0. */
  readonly labelSmoothing?: number;
}

/**
 * Close positions get similar vectors: `CE(softmax_j(<e_p, e_j> logitScale), label)`, mean over pivots and heads.
 * @param pivots `[pivots, dim]`. @param candidates `[pivots * candidates, dim]`, those of a pivot together.
 * @param labels int32 `[pivots]`: which candidate is nearest, see `nearestCandidate`.
 * @throws ConfigError for an option or a label out of range, ShapeError if the shapes do not fit.
 *
 * Source: SeqPE (2025, arXiv 2506.13277).
 */
export function contrastivePositionLoss(
  pivots: Tensor,
  candidates: Tensor,
  labels: Tensor,
  options: ContrastivePositionLossOptions = {},
): Scalar {
  const owner = 'contrastivePositionLoss';
  const [count, dim] = pivots.shape as [number, number];
  const each = (candidates.shape[0] ?? 0) / count;
  const fit =
    pivots.rank === 2 &&
    candidates.rank === 2 &&
    candidates.shape[1] === dim &&
    String(labels.shape) === String([count]);
  if (!fit || !Number.isInteger(each) || each < 1) {
    throw new ShapeError(
      `${owner} takes pivots [pivots, dim], candidates [pivots * candidates, dim] and labels [pivots], not ` +
        `[${pivots.shape}], [${candidates.shape}] and [${labels.shape}].`,
    );
  }
  const strange = knownValues(labels)?.find((label) => !(label >= 0 && label < each));
  if (strange !== undefined) {
    throw new ConfigError(`${owner}: a label is ${strange}; it must be the index of one of ${each} candidates.`);
  }
  const { heads, logitScale, labelSmoothing } = checkContrastiveLoss(dim, options);
  return tidy(() => {
    const byHead = transpose(reshape(candidates, [count, each, heads, dim / heads]), [0, 2, 1, 3]);
    const products = matMul(byHead, reshape(mul(pivots, logitScale), [count, heads, dim / heads, 1]));
    const repeated = reshape(tile(reshape(labels, [count, 1]), [1, heads]), [-1]);
    return crossEntropy(reshape(products, [count * heads, each]), repeated, { labelSmoothing }) as Scalar;
  });
}

/** The options with their defaults. @throws ConfigError for one out of range. */
export function checkContrastiveLoss(
  dim: number,
  options: ContrastivePositionLossOptions,
): Required<ContrastivePositionLossOptions> {
  const { heads = 1, logitScale = 1, labelSmoothing = 0 } = options;
  const owner = 'contrastivePositionLoss';
  checkHeads(owner, heads, dim);
  checkNumber(`${owner}: logitScale`, logitScale, { above: 0 });
  checkNumber(`${owner}: labelSmoothing`, labelSmoothing, { min: 0, max: 1 });
  return { heads, logitScale, labelSmoothing };
}

export interface PositionTransferLossOptions {
  /** Parts that vectors are split into, each with similarities of its own. Default 1. */
  readonly heads?: number;
  /** The share that trains the student; the rest trains the teacher. Default 1. */
  readonly beta?: number;
  /** Default `'kl_div'`. */
  readonly metric?: 'kl_div' | 'mse';
  /** Of the similarities. Default 1. */
  readonly logitScale?: number;
}

/**
 * Windows far away look like the trained one: with `T` and `Z` the logarithms of the rows of softmax over `X X^T logitScale`
 * for teacher and student, `mean(e^T (T - Z)) + mean(e^Z (Z - T))` with `T` detached, or `mean((Z - T)^2)`, over ALL entries.
 * With `beta < 1` it is `beta` of this and `1 - beta` of the same with `Z` detached in place of `T`.
 * @param teacher `[windows, positions, dim]`. @param student the same shape.
 * @throws ConfigError for an option out of range, ShapeError if the shapes do not fit.
 *
 * Source: SeqPE (2025, arXiv 2506.13277).
 */
export function positionTransferLoss(
  teacher: Tensor,
  student: Tensor,
  options: PositionTransferLossOptions = {},
): Scalar {
  if (teacher.rank !== 3 || String(teacher.shape) !== String(student.shape)) {
    throw new ShapeError(
      `positionTransferLoss takes two tensors [windows, positions, dim], not [${teacher.shape}] and [${student.shape}].`,
    );
  }
  const [windows, positions, dim] = teacher.shape as [number, number, number];
  const { heads, beta, metric, logitScale } = checkTransferLoss(dim, options);
  const similarities = (x: Tensor): Tensor => {
    const byHead = transpose(reshape(x, [windows, positions, heads, dim / heads]), [0, 2, 1, 3]);
    return logSoftmax(matMul(mul(byHead, logitScale), byHead, false, true));
  };
  const apart = (t: Tensor, z: Tensor): Tensor =>
    metric === 'mse' ? mean(square(sub(z, t))) : add(mean(mul(exp(t), sub(t, z))), mean(mul(exp(z), sub(z, t))));
  return tidy(() => {
    const [t, z] = [similarities(teacher), similarities(student)];
    const learned = apart(stopGradient(t), z);
    if (beta === 1) return learned as Scalar;
    return add(mul(learned, beta), mul(apart(t, stopGradient(z)), 1 - beta)) as Scalar;
  });
}

/** The options with their defaults. @throws ConfigError for one out of range. */
export function checkTransferLoss(
  dim: number,
  options: PositionTransferLossOptions,
): Required<PositionTransferLossOptions> {
  const { heads = 1, beta = 1, metric = 'kl_div', logitScale = 1 } = options;
  const owner = 'positionTransferLoss';
  checkHeads(owner, heads, dim);
  checkNumber(`${owner}: logitScale`, logitScale, { above: 0 });
  checkChoice(owner, 'metric', metric, ['kl_div', 'mse'] as const);
  checkNumber(`${owner}: beta`, beta, { min: 0, max: 1 });
  return { heads, beta, metric, logitScale };
}

function checkHeads(owner: string, heads: number, dim: number): void {
  checkInteger(owner, 'heads', heads);
  if (dim % heads !== 0) throw new ConfigError(`${owner}: heads is ${heads}; it must divide the width, ${dim}.`);
}
