import {
  add,
  cast,
  customGrad,
  div,
  expandDims,
  gather,
  logSumExp,
  mul,
  notEqual,
  range,
  reshape,
  scatterND,
  softmax,
  squeeze,
  stack,
  sub,
  sum,
  type Tensor,
  type Tensor1D,
  tidy,
  util,
} from '@tensorflow/tfjs-core';
import { ConfigError, ShapeError } from '../errors.ts';
import { noGrad } from './no-grad.ts';

export interface CrossEntropyOptions {
  /** Labels of this value count for nothing. Default -100. */
  readonly ignoreIndex?: number;
  /** The share in [0, 1] of the target that is spread evenly over all classes. Default 0. */
  readonly labelSmoothing?: number;
  /** `'mean'` (default) divides by the summed weights of the labels that count; `'sum'`; `'none'` keeps labels' shape. */
  readonly reduction?: 'mean' | 'sum' | 'none';
  /** A weight for each class, `[vocab]`; a constant for differentiation. Default ones. */
  readonly classWeights?: Tensor;
}

/**
 * Cross-entropy of class labels, as `torch.nn.functional.cross_entropy` (but the classes are the LAST axis of `logits`).
 *
 * With `p = softmax(z)`, weights `w`, label `y`, smoothing `e` and `V` classes, an entry's loss is
 * `-(1 - e) w_y log p_y - (e / V) sum_c w_c log p_c`. If every label is ignored the mean is 0 / 0 = NaN, as in PyTorch.
 * Keeps `logits` alone for the backward pass.
 * @param logits `[..., vocab]`.
 * @param labels int32 `[...]`, each in `[0, vocab)` or `ignoreIndex`.
 * @returns a scalar, or `[...]` for reduction `'none'`.
 * @throws ShapeError if shapes do not fit, ConfigError for an option out of range.
 */
export function crossEntropy(logits: Tensor, labels: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { ignoreIndex = -100, labelSmoothing = 0, reduction = 'mean', classWeights } = options;
  check(logits, labels, labelSmoothing, reduction, classWeights);
  const vocab = logits.shape[logits.rank - 1];
  return tidy(() => {
    const flat = reshape(labels, [-1]) as Tensor1D;
    const { target, weight } = noGrad(() => {
      const counts = notEqual(flat, ignoreIndex);
      const target = mul(flat, cast(counts, 'int32'));
      const mask = cast(counts, 'float32');
      return { target, weight: classWeights === undefined ? mask : mul(mask, gather(classWeights, target)) };
    });
    const smooth = labelSmoothing / vocab;
    const losses = customGrad((...args) => {
      const [z, save] = args as unknown as [Tensor, (tensors: Tensor[]) => void];
      // What an entry puts on its own label, and on all classes alike (times their weights).
      const own = mul(weight, 1 - labelSmoothing);
      const spread = mul(cast(notEqual(flat, ignoreIndex), 'float32'), smooth);
      const classes = classWeights ?? null;
      const total = add(own, mul(spread, classes === null ? vocab : sum(classes)));
      const picked = squeeze(gather(z, expandDims(target, 1) as Tensor & { dtype: 'int32' }, 1, 1), [1]);
      save([z, target, own, spread, total, ...(classes === null ? [] : [classes])]);
      let value = sub(mul(total, logSumExp(z, 1)), mul(own, picked));
      if (smooth > 0) value = sub(value, mul(spread, sum(classes === null ? z : mul(z, classes), 1)));
      const gradFunc = (dy: Tensor, [z, target, own, spread, total, classes]: Tensor[]): Tensor => {
        const places = stack([range(0, target.size, 1, 'int32'), target], 1);
        const dPicked = scatterND(places, mul(mul(dy, own), -1), z.shape);
        const dz = add(mul(softmax(z), expandDims(mul(dy, total), 1)), dPicked);
        if (smooth === 0) return dz;
        const dSpread = expandDims(mul(dy, spread), 1);
        return sub(dz, classes === undefined ? dSpread : mul(dSpread, classes));
      };
      return { value, gradFunc };
    })(reshape(logits, [-1, vocab]));
    if (reduction === 'none') return reshape(losses, labels.shape);
    return reduction === 'sum' ? sum(losses) : div(sum(losses), sum(weight));
  });
}

function check(
  logits: Tensor,
  labels: Tensor,
  labelSmoothing: number,
  reduction: string,
  classWeights: Tensor | undefined,
): void {
  if (logits.rank < 1 || labels.dtype !== 'int32' || !util.arraysEqual(logits.shape.slice(0, -1), labels.shape)) {
    throw new ShapeError(
      `crossEntropy needs logits [..., vocab] and int32 labels [...], ` +
        `not [${logits.shape}] and ${labels.dtype} [${labels.shape}].`,
    );
  }
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
    throw new ConfigError(`crossEntropy: labelSmoothing is ${labelSmoothing}; it may be from 0 to 1.`);
  }
  if (reduction !== 'mean' && reduction !== 'sum' && reduction !== 'none') {
    throw new ConfigError(`crossEntropy: reduction is '${reduction}'; it may be 'mean', 'sum' or 'none'.`);
  }
  const vocab = logits.shape[logits.rank - 1];
  if (classWeights !== undefined && !util.arraysEqual(classWeights.shape, [vocab])) {
    throw new ShapeError(
      `crossEntropy: classWeights must be [${vocab}], one for each class, not [${classWeights.shape}].`,
    );
  }
}
