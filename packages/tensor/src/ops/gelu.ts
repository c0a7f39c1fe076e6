import { add, customGrad, erf, exp, mul, square, sub, type Tensor, tanh } from '@tensorflow/tfjs-core';
import { ConfigError } from '../errors.ts';

/**
 * Gaussian error linear unit: `x Phi(x)`, `Phi` the standard normal distribution function; with `approximate: 'tanh'`
 * `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2` (GPT-2's).
 *
 * Source: Hendrycks and Gimpel, "Gaussian error linear units" (2016, arXiv 1606.08415).
 * @param options.approximate `'none'` (default) or `'tanh'`, as in PyTorch.
 */
export function gelu(x: Tensor, options: { approximate?: 'none' | 'tanh' } = {}): Tensor {
  const { approximate = 'none' } = options;
  if (approximate !== 'none' && approximate !== 'tanh') {
    throw new ConfigError(`gelu: approximate is '${approximate}'; it may be 'none' or 'tanh'.`);
  }
  const { gate, slope } = approximate === 'tanh' ? tanhForm : erfForm;
  // Keeps `x` alone for the backward pass.
  return customGrad((x, save) => {
    (save as (tensors: Tensor[]) => void)([x as Tensor]);
    return {
      value: mul(x as Tensor, gate(x as Tensor)),
      gradFunc: (dy: Tensor, saved: Tensor[]) => mul(dy, slope(saved[0])),
    };
  })(x);
}

/** `gelu(x) = x gate(x)` and its derivative. */
interface Form {
  gate(x: Tensor): Tensor;
  slope(x: Tensor): Tensor;
}

const erfForm: Form = {
  gate: (x) => mul(add(erf(mul(x, Math.SQRT1_2)), 1), 0.5),
  slope: (x) => add(erfForm.gate(x), mul(x, mul(exp(mul(square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI)))),
};

const SCALE: number = Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;
/** `tanh` of `SCALE (x + CUBIC x^3)`. */
const inner = (x: Tensor): Tensor => tanh(mul(mul(x, add(mul(square(x), CUBIC), 1)), SCALE));

const tanhForm: Form = {
  gate: (x) => mul(add(inner(x), 1), 0.5),
  slope: (x) => {
    const t = inner(x);
    const dInner = mul(add(mul(square(x), 3 * CUBIC), 1), SCALE);
    return mul(add(add(t, 1), mul(mul(x, sub(1, square(t))), dInner)), 0.5);
  },
};
