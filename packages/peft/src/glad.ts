import { globalNorm } from '@ashlar/optim';
import {
  add,
  addN,
  ConfigError,
  disposeMap,
  div,
  divNoNan,
  greater,
  isFinite,
  less,
  lossAndGrads,
  mul,
  type Parameter,
  type Rng,
  type Scalar,
  sub,
  sum,
  type Tensor,
  type TensorMap,
  tidy,
  where,
} from '@ashlar/tensor';

/** How the reference gradient steers the ordinary one. */
export type GladRule = 'blend' | 'decompose' | 'project';

export interface RegularizeOptions {
  /** Default 'blend'. */
  rule?: GladRule;
  /** Strength, in [0, 1]; 0 leaves the gradient as it is, and 'project' has none. Default 0.5. */
  lambda?: number;
  /** What 'decompose' and 'project' take for one vector: all tensors (default) or each by itself. */
  scope?: 'global' | 'tensor';
}

export interface GladOptions extends RegularizeOptions {
  /** Length of the step to where the reference gradient is taken, >= 0. Default 0.05; small networks want 0.2 to 0.4. */
  rho?: number;
  /** Generators that the loss draws from (dropout): both passes see the same numbers. */
  rngs?: Iterable<Rng>;
}

const RULES: readonly string[] = ['blend', 'decompose', 'project'];

function check({ rule = 'blend', lambda = 0.5, scope = 'global', rho = 0.05 }: GladOptions) {
  if (!RULES.includes(rule)) throw new ConfigError(`GLAD: rule is '${rule}'; it may be ${RULES.join(', ')}.`);
  if (!(lambda >= 0 && lambda <= 1)) throw new ConfigError(`GLAD: lambda is ${lambda}; it may be in [0, 1].`);
  if (scope !== 'global' && scope !== 'tensor') {
    throw new ConfigError(`GLAD: scope is '${scope}'; it may be 'global' or 'tensor'.`);
  }
  if (!(rho >= 0 && rho < Infinity)) throw new ConfigError(`GLAD: rho is ${rho}; it may be a finite number >= 0.`);
  return { rule, lambda, scope, rho };
}

/** `<a, b>` over all tensors as one vector. */
function dot(a: TensorMap, b: TensorMap): Scalar {
  return addN([...a].map(([name, tensor]) => sum(mul(tensor, b.get(name) as Tensor)))) as Scalar;
}

/** New tensors `f(tensor, name)` under the same names; nothing else is left. */
function mapTensors(tensors: TensorMap, f: (tensor: Tensor, name: string) => Tensor): Map<string, Tensor> {
  return new Map([...tensors].map(([name, tensor]) => [name, tidy(() => f(tensor, name))]));
}

/**
 * The gradient `g` steered by the reference gradient `r`; the caller disposes of the result:
 * - blend: `(1 - lambda) g + lambda (|g| / |r|) r`, norms over all tensors;
 * - decompose: with `c = <g, r> / <r, r>`, `c r + (1 - lambda) (g - c r)` where `c >= 0`, else `g - c r`;
 * - project: `g` where `c >= 0`, else `g - c r`.
 *
 * With a reference of zeros blend and project leave `g` as it is, and decompose scales it by `1 - lambda`.
 * @throws ConfigError for an option out of range.
 */
export function regularizeGradient(
  gradients: TensorMap,
  reference: TensorMap,
  options: RegularizeOptions = {},
): Map<string, Tensor> {
  const { rule, lambda, scope } = check(options);
  const ratios = tidy(() => {
    if (rule === 'blend') {
      const length = globalNorm(reference);
      // Without a reference its share goes back to the gradient.
      const kept = where(greater(length, 0), 1 - lambda, 1);
      return { kept, ratio: mul(divNoNan(globalNorm(gradients), length), lambda) };
    }
    return { kept: undefined, ratio: divNoNan(dot(gradients, reference), dot(reference, reference)) };
  });
  const steered = mapTensors(gradients, (g, name) => {
    const r = reference.get(name) as Tensor;
    if (ratios.kept !== undefined) return add(mul(g, ratios.kept), mul(r, ratios.ratio));
    const c = scope === 'global' ? ratios.ratio : divNoNan(sum(mul(g, r)), sum(mul(r, r)));
    const along = mul(r, c);
    const rest = sub(g, along);
    const agreed = rule === 'project' ? g : add(along, mul(rest, 1 - lambda));
    return where(less(c, 0), rest, agreed);
  });
  ratios.kept?.dispose();
  ratios.ratio.dispose();
  return steered;
}

/** `rho g / (|g| + 1e-12)`, the norm over all tensors; the caller disposes of it. @throws ConfigError if `rho < 0`. */
export function sharpnessPerturbation(gradients: TensorMap, rho: number): Map<string, Tensor> {
  check({ rho });
  const factor = tidy(() => div(rho, add(globalNorm(gradients), 1e-12)));
  const perturbation = mapTensors(gradients, (g) => mul(g, factor));
  factor.dispose();
  return perturbation;
}

export interface GladGradients {
  /** At the parameters. */
  readonly loss: Scalar;
  /** The regularized gradients. */
  readonly grads: Map<string, Tensor>;
  /** At the perturbed parameters: less `loss` it is the sharpness. */
  readonly perturbedLoss: Scalar;
  /** Between the gradient and its reference. */
  readonly cosine: Scalar;
  /** Of the gradient before it is regularized. */
  readonly gradNorm: Scalar;
}

/**
 * Loss and gradients with the parameters moved by `step`; they are then put back, the very tensors that were there. The
 * caller disposes of the results.
 */
export function gradientsAt(
  loss: () => Tensor,
  parameters: ReadonlyMap<string, Parameter>,
  step: TensorMap,
): ReturnType<typeof lossAndGrads> {
  const originals = new Map<Parameter, Tensor>();
  try {
    for (const [name, parameter] of parameters) {
      const moved = tidy(() => add(parameter.stored, step.get(name) as Tensor));
      originals.set(parameter, parameter.exchange(moved));
    }
    return lossAndGrads(loss, parameters);
  } finally {
    for (const [parameter, original] of originals) parameter.exchange(original).dispose();
  }
}

/**
 * Gradients that lead to flatter minima (GLAD): the gradient at the parameters, steered by the one at a point `rho` uphill,
 * on the same batch. They serve any adapter, or a whole model, in the place of `lossAndGrads`; clipping and weight decay come
 * after. A step costs twice that of plain training, and two copies of the parameters that train. Where the loss uphill is
 * not finite the gradient stays as it is.
 *
 * The paper's rule is not public: 'blend' is one of three reconstructions. With `lambda` or `rho` 0 the gradients are the
 * plain ones, bit for bit.
 *
 * Source: Peng et al., "GLAD: Generalizable Tuning for Vision-Language Models" (2025).
 * @param loss a scalar of the batch, computed twice.
 * @returns tensors that the caller disposes of.
 * @throws ConfigError for an option out of range.
 */
export function gladGradients(
  loss: () => Tensor,
  parameters: ReadonlyMap<string, Parameter>,
  options: GladOptions = {},
): GladGradients {
  const { lambda, rho } = check(options);
  const rngs = [...(options.rngs ?? [])];
  const before = rngs.map((rng) => rng.state());
  const here = lossAndGrads(loss, parameters);
  let there: ReturnType<typeof lossAndGrads>;
  const step = sharpnessPerturbation(here.grads, rho);
  try {
    for (const [i, rng] of rngs.entries()) rng.restore(before[i]);
    there = gradientsAt(loss, parameters, step);
  } catch (error) {
    here.loss.dispose();
    disposeMap(here.grads);
    throw error;
  } finally {
    disposeMap(step);
  }
  const [gradNorm, cosine] = tidy(() => {
    const length = globalNorm(here.grads);
    return [length, divNoNan(dot(here.grads, there.grads), mul(length, globalNorm(there.grads))) as Scalar];
  });
  const plain = lambda === 0 || rho === 0;
  const grads = plain ? here.grads : steered(here.grads, there, options);
  if (!plain) disposeMap(here.grads);
  disposeMap(there.grads);
  return { loss: here.loss, grads, perturbedLoss: there.loss, cosine, gradNorm };
}

/** The regularized gradient, or where the loss at the reference is not finite the plain one. */
function steered(
  gradients: TensorMap,
  { loss, grads }: { loss: Scalar; grads: TensorMap },
  options: GladOptions,
): Map<string, Tensor> {
  const regularized = regularizeGradient(gradients, grads, options);
  const result = mapTensors(gradients, (g, name) => where(isFinite(loss), regularized.get(name) as Tensor, g));
  disposeMap(regularized);
  return result;
}
