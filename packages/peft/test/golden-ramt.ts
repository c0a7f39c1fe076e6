import { attend, Linear, mergeHeads, splitHeads } from '@ashlar/nn';
import { adam, Optimizer } from '@ashlar/optim';
import {
  add,
  cast,
  crossEntropy,
  disposeMap,
  grads,
  l2Normalize,
  lossAndGrads,
  Module,
  matMul,
  mul,
  type Scalar,
  slice,
  type Tensor,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import {
  attach,
  BinaryMask,
  gradientDropout,
  keepProbability,
  knowledgeLoss,
  maskNormPenalty,
  type RamtModel,
  ramt,
} from '../src/index.ts';
import { Holder, linear, rng, withWeights } from './golden-layers.ts';

/** Masks layers of `model`; `run` gets the masks by path. */
function withMasks(
  model: Module,
  threshold: number,
  masks: Readonly<Record<string, Tensor>>,
  run: (mask: (path: string) => BinaryMask, handle: RamtModel) => GoldenOutputs,
): GoldenOutputs {
  const handle = attach(model, ramt({ targetModules: Object.keys(masks), tau: threshold, init: threshold + 1 }));
  const at = (path: string): BinaryMask => handle.layers.get(path) as BinaryMask;
  for (const [path, mask] of Object.entries(masks)) at(path).mask.assign(mask.clone());
  const outputs = run(at, handle);
  handle.unload();
  model.dispose();
  return outputs;
}

/** Self-attention on `[seq, batch, dim]` with one projection to queries, keys and values. */
class FusedAttention extends Module {
  readonly heads: number;
  readonly in_proj: Linear;
  readonly out_proj: Linear;

  constructor(dim: number, heads: number) {
    super();
    this.heads = heads;
    this.in_proj = new Linear(dim, 3 * dim, { rng });
    this.out_proj = new Linear(dim, dim, { rng });
  }

  forward(x: Tensor): Tensor {
    const [seq, batch, dim] = x.shape as [number, number, number];
    const all = transpose(this.in_proj.apply(x), [1, 0, 2]);
    const part = (i: number): Tensor => splitHeads(slice(all, [0, 0, i * dim], [batch, seq, dim]), this.heads);
    const mixed = mergeHeads(attend(part(0), part(1), part(2), {}));
    return this.out_proj.apply(transpose(mixed, [1, 0, 2]));
  }
}

interface DropoutCase extends GoldenInputs {
  grad_ce: Tensor;
  grad_kl: Tensor;
  uniform: Tensor;
  lambda: number;
}

export const ramtGolden = defineGolden({
  'r-amt/masked_linear': (
    inputs: GoldenInputs & {
      threshold: number;
      mask_init_scale: number;
      weight: Tensor;
      bias?: Tensor;
      mask_real: Tensor;
      x: Tensor;
      grad_output: Tensor;
    },
  ) => {
    const { threshold, mask_init_scale, mask_real, x, grad_output } = inputs;
    const fresh = new BinaryMask([1], { tau: threshold, init: mask_init_scale });
    const layer = linear(inputs);
    return withMasks(new Holder(layer), threshold, { layer: mask_real }, (at, handle) => {
      const binary = at('layer').binary();
      const y = layer.apply(x);
      const [grad_x, grad_mask_real] = tidy(() =>
        grads((input: Tensor) => layer.apply(input))([x, at('layer').mask.stored] as Tensor[], grad_output),
      );
      handle.merge();
      const outputs = { mask_real_at_init: fresh.mask.stored.clone(), mask: binary, y, grad_mask_real, grad_x };
      fresh.dispose();
      return { ...outputs, y_eval: layer.apply(x) };
    });
  },

  'r-amt/masked_attention': (
    inputs: GoldenInputs & {
      num_heads: number;
      threshold: number;
      in_proj_weight: Tensor;
      in_proj_bias: Tensor;
      out_proj_weight: Tensor;
      out_proj_bias: Tensor;
      mask_real_in: Tensor;
      mask_real_out: Tensor;
      x: Tensor;
      grad_output: Tensor;
    },
  ) => {
    const { num_heads, threshold, mask_real_in, mask_real_out, x, grad_output } = inputs;
    const model = new FusedAttention(x.shape[2] as number, num_heads);
    withWeights(model.in_proj, inputs.in_proj_weight, inputs.in_proj_bias);
    withWeights(model.out_proj, inputs.out_proj_weight, inputs.out_proj_bias);
    return withMasks(model, threshold, { in_proj: mask_real_in, out_proj: mask_real_out }, (at) => {
      const masks = [at('in_proj').mask.stored, at('out_proj').mask.stored];
      const [grad_mask_real_in, grad_mask_real_out] = tidy(() => grads(() => model.apply(x))(masks, grad_output));
      return { y: model.apply(x), grad_mask_real_in, grad_mask_real_out };
    });
  },

  'r-amt/knowledge_loss': (inputs: {
    student_logits: Tensor;
    teacher_logits: Tensor;
    labels: Tensor;
    T: number;
    alpha: number;
  }) => {
    const { student_logits, teacher_logits, T, alpha } = inputs;
    const labels = cast(inputs.labels, 'int32');
    const knowledge = (student: Tensor): Tensor => knowledgeLoss(student, teacher_logits, { T, alpha });
    const task = (student: Tensor): Tensor => crossEntropy(student, labels);
    const [[grad_kl], [grad_ce]] = [knowledge, task].map((loss) => grads(loss)([student_logits]));
    const outputs = { kl_loss: knowledge(student_logits), grad_kl, ce_loss: task(student_logits), grad_ce };
    labels.dispose();
    return outputs;
  },

  'r-amt/gradient_dropout': ({ grad_ce, grad_kl, uniform, lambda }: DropoutCase) => ({
    keep_probability: keepProbability(grad_ce, grad_kl),
    grad_out: gradientDropout(grad_ce, grad_kl, uniform, lambda),
  }),

  'r-amt/mask_norm_penalty': ({ weight, ...masks }: GoldenInputs & { weight: number }) => {
    const list = Object.values(masks) as Tensor[];
    const penalty = (...all: Tensor[]): Scalar => maskNormPenalty(all, weight);
    const gradients = grads(penalty)(list);
    const named = Object.fromEntries(gradients.map((gradient, i) => [`grad_${i + 1}`, gradient]));
    return { loss: penalty(...list), ...named };
  },

  'r-amt/mask_bits': ({ threshold, mask_real }: { threshold: number; mask_real: Tensor }) => {
    const mask = new BinaryMask(mask_real.shape, { tau: threshold, init: threshold + 1 });
    mask.mask.assign(mask_real.clone());
    const bytes = mask.bits();
    // By way of the bytes, as a file has them.
    mask.setBits(bytes);
    const outputs = { bytes: Array.from(bytes), mask: mask.binary() };
    mask.dispose();
    return outputs;
  },

  'r-amt/full_step': (inputs: {
    weight: Tensor;
    bias?: Tensor;
    text_features: Tensor;
    logit_scale: number;
    x: Tensor;
    labels: Tensor;
    uniform: Tensor;
    threshold: number;
    mask_real: Tensor;
    lr: number;
    norm_weight?: number;
    lambda?: number;
  }) => {
    const { text_features, logit_scale, x, uniform, threshold, mask_real, lr, norm_weight, lambda } = inputs;
    const labels = cast(inputs.labels, 'int32');
    const layer = linear(inputs);
    return withMasks(new Holder(layer), threshold, { layer: mask_real }, (at, handle) => {
      const logits = (): Tensor =>
        tidy(() => mul(matMul(l2Normalize(layer.apply(x)), text_features, false, true), logit_scale));
      handle.disable();
      const teacher_logits = logits();
      handle.enable();
      const parameters = handle.parameters();
      const task = lossAndGrads(
        () => add(crossEntropy(logits(), labels), maskNormPenalty(handle.masks(), norm_weight)),
        parameters,
      );
      const knowledge = lossAndGrads(() => knowledgeLoss(logits(), teacher_logits), parameters);
      const [name] = parameters.keys();
      const [a, b] = [task, knowledge].map(({ grads }) => grads.get(name) as Tensor);
      const grad_after_dropout = gradientDropout(a, b, uniform, lambda);
      const optimizer = new Optimizer(parameters, adam({ learningRate: lr }));
      const student_logits = logits();
      optimizer.step(new Map([[name, grad_after_dropout]]));
      optimizer.dispose();
      labels.dispose();
      disposeMap(task.grads);
      disposeMap(knowledge.grads);
      return {
        task_loss: task.loss,
        knowledge_loss: knowledge.loss,
        student_logits,
        teacher_logits,
        grad_after_dropout,
        mask_real_after: at('layer').mask.stored.clone(),
      };
    });
  },
});
