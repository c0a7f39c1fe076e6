import {
  add,
  addN,
  equal,
  logSoftmax,
  mean,
  mul,
  neg,
  type Scalar,
  softmax,
  sqrt,
  square,
  sum,
  type Tensor,
  tidy,
  where,
} from '@ashlar/tensor';
import { refuse } from '../check-options.ts';

/**
 * How far a student is from its teacher: `mean_n -sum_c softmax(t / T)_c log softmax(s / T)_c T^2` with
 * `t = alpha teacher + (1 - alpha) student`: the Kullback-Leibler divergence up to the teacher's entropy, so that it is not
 * zero where they agree. With `alpha < 1` the student's part of `t` carries gradient.
 * @param student logits `[batch, classes]`, as `teacher`.
 * @throws ConfigError unless `T > 0`.
 */
export function knowledgeLoss(
  student: Tensor,
  teacher: Tensor,
  { T = 1, alpha = 1 }: { T?: number; alpha?: number } = {},
): Scalar {
  if (!(Number.isFinite(T) && T > 0)) refuse('T', T, 'a finite number above 0');
  if (!Number.isFinite(alpha)) refuse('alpha', alpha, 'a finite number');
  return tidy(() => {
    const target = alpha === 1 ? teacher : add(mul(teacher, alpha), mul(student, 1 - alpha));
    const products = mul(softmax(mul(target, 1 / T)), logSoftmax(mul(student, 1 / T)));
    return mul(neg(mean(sum(products, -1))), T ** 2) as Scalar;
  });
}

/** `weight sum_l |m_l|_2` over mask variables, the norm not squared; its gradient at a zero mask is zero. */
export function maskNormPenalty(masks: readonly Tensor[], weight = 1e-4): Scalar {
  return tidy(() => mul(addN(masks.map(norm)), weight) as Scalar);
}

function norm(mask: Tensor): Scalar {
  const squares = sum(square(mask));
  const isZero = equal(squares, 0);
  // The root of zero has no slope: that of one takes its place, and does not count.
  return where(isZero, 0, sqrt(where(isZero, 1, squares))) as Scalar;
}
