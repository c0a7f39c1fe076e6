import { adam, Optimizer } from '@ashlar/optim';
import {
  add,
  cast,
  crossEntropy,
  dispose,
  disposeMap,
  l2Normalize,
  lossAndGrads,
  matMul,
  mul,
  Parameter,
  type Tensor,
  tensor1d,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs } from '../../../tooling/golden/src/define-golden.ts';
import { type GladRule, gladGradients, gradientsAt, regularizeGradient, sharpnessPerturbation } from '../src/index.ts';

/** A layer's weight with LoRA: `W + (alpha / r) B A`. */
const adapted = (weight: Tensor, a: Tensor, b: Tensor, scaling: number): Tensor =>
  add(weight, mul(matMul(b, a), scaling));

/** Mean cross-entropy of `scale cos(image, text)` over the classes. */
function contrastiveLoss(image: Tensor, text: Tensor, labels: Tensor, scale: number): { logits: Tensor; loss: Tensor } {
  const logits = mul(matMul(l2Normalize(image), l2Normalize(text), false, true), scale);
  return { logits, loss: crossEntropy(logits, cast(labels, 'int32')) };
}

const parametersOf = (tensors: Record<string, Tensor>): Map<string, Parameter> =>
  new Map(Object.entries(tensors).map(([name, tensor]) => [name, new Parameter(tensor.clone())]));

/** The gradient, the step uphill and the gradient there. The parameters are disposed of unless they are to be kept. */
function twoGradients(
  loss: () => Tensor,
  parameters: Map<string, Parameter>,
  rho: number,
  { keep = false } = {},
): Record<'gradient' | 'perturbation' | 'reference', Record<string, Tensor>> {
  const here = lossAndGrads(loss, parameters);
  const perturbation = sharpnessPerturbation(here.grads, rho);
  const there = gradientsAt(loss, parameters, perturbation);
  here.loss.dispose();
  there.loss.dispose();
  if (!keep) for (const parameter of parameters.values()) parameter.dispose();
  const [gradient, step, reference] = [here.grads, perturbation, there.grads].map((map) => Object.fromEntries(map));
  return { gradient, perturbation: step, reference };
}

interface RulesCase extends GoldenInputs {
  lambda: number;
  gradient: Record<string, Tensor>;
  reference: Record<string, Tensor>;
}

interface TwoTowers extends GoldenInputs {
  image_weight: Tensor;
  text_weight: Tensor;
  image_lora_A: Tensor;
  image_lora_B: Tensor;
  text_lora_A: Tensor;
  text_lora_B: Tensor;
  r: number;
  lora_alpha: number;
  x: Tensor;
  class_inputs: Tensor;
  labels: Tensor;
  logit_scale: number;
  rho: number;
  lr: number;
  lambda: number;
}

export const gladGolden = defineGolden({
  'glad/gradient_rules': ({ lambda, gradient, reference }: RulesCase) => {
    const [g, r] = [gradient, reference].map((tensors) => new Map(Object.entries(tensors)));
    const steer = (rule: GladRule, scope: 'global' | 'tensor') =>
      Object.fromEntries(regularizeGradient(g, r, { rule, scope, lambda }));
    return {
      blend_global: steer('blend', 'global'),
      project_global: steer('project', 'global'),
      project_tensor: steer('project', 'tensor'),
      decompose_global: steer('decompose', 'global'),
      decompose_tensor: steer('decompose', 'tensor'),
    };
  },

  'glad/zero_gradients': (inputs: { gradient: number[]; zero: number[]; rho: number; lambda: number }) => {
    const [g, zero] = [inputs.gradient, inputs.zero].map((list) => new Map([['p', tensor1d(list)]]));
    const { lambda } = inputs;
    const only = (map: Map<string, Tensor>): Tensor => map.get('p') as Tensor;
    const outputs = {
      blend_zero_reference: only(regularizeGradient(g, zero, { lambda })),
      project_zero_reference: only(regularizeGradient(g, zero, { rule: 'project', lambda })),
      perturbation_of_zero_gradient: only(sharpnessPerturbation(zero, inputs.rho)),
      blend_zero_gradient: only(regularizeGradient(zero, g, { lambda })),
    };
    disposeMap(g);
    disposeMap(zero);
    return outputs;
  },

  'glad/first_step_from_zero_B': (inputs: {
    image_weight: Tensor;
    lora_A: Tensor;
    text: Tensor;
    x: Tensor;
    labels: Tensor;
    logit_scale: number;
    rho: number;
    scaling: number;
  }) => {
    const b = zeros([inputs.image_weight.shape[0], inputs.lora_A.shape[0]]);
    const parameters = parametersOf({ A: inputs.lora_A, B: b });
    b.dispose();
    const loss = (): Tensor => {
      const [A, B] = [...parameters.values()].map((parameter) => parameter.value);
      const image = matMul(inputs.x, adapted(inputs.image_weight, A, B, inputs.scaling), false, true);
      return contrastiveLoss(image, inputs.text, inputs.labels, inputs.logit_scale).loss;
    };
    const { gradient, reference, perturbation } = twoGradients(loss, parameters, inputs.rho);
    dispose(perturbation);
    return {
      grad_A: gradient.A,
      grad_B: gradient.B,
      reference_A: reference.A,
      reference_B: reference.B,
    };
  },

  'glad/full_step': (inputs: TwoTowers) => {
    const { image_lora_A, image_lora_B, text_lora_A, text_lora_B, rho, lr, lambda } = inputs;
    const parameters = parametersOf({ image_lora_A, image_lora_B, text_lora_A, text_lora_B });
    const scaling = inputs.lora_alpha / inputs.r;
    const run = (): { logits: Tensor; loss: Tensor } => {
      const [imageA, imageB, textA, textB] = [...parameters.values()].map((parameter) => parameter.value);
      const image = matMul(inputs.x, adapted(inputs.image_weight, imageA, imageB, scaling), false, true);
      const text = matMul(inputs.class_inputs, adapted(inputs.text_weight, textA, textB, scaling), false, true);
      return contrastiveLoss(image, text, inputs.labels, inputs.logit_scale);
    };
    const logits = tidy(() => run().logits);
    const { gradient, reference, perturbation } = twoGradients(() => run().loss, parameters, rho, { keep: true });
    const glad = gladGradients(() => run().loss, parameters, { rho, lambda });
    const optimizer = new Optimizer(parameters, adam({ learningRate: lr }));
    optimizer.step(glad.grads);
    optimizer.dispose();
    const params_after = Object.fromEntries([...parameters].map(([name, { stored }]) => [name, stored.clone()]));
    for (const parameter of parameters.values()) parameter.dispose();
    return {
      logits,
      loss: glad.loss,
      loss_perturbed: glad.perturbedLoss,
      grad_norm: glad.gradNorm,
      cosine: glad.cosine,
      gradient,
      perturbation,
      reference,
      regularized: Object.fromEntries(glad.grads),
      params_after,
    };
  },
});
