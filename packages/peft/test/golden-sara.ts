import { adamw, Optimizer } from '@ashlar/optim';
import {
  add,
  addN,
  disposeMap,
  grads,
  lossAndGrads,
  Module,
  mul,
  ones,
  Parameter,
  sum,
  svd,
  type Tensor,
  type Tensor2D,
  tensor1d,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs } from '../../../tooling/golden/src/define-golden.ts';
import {
  attach,
  type SaraConfig,
  type SaraModel,
  sara,
  saraLearningRate,
  scatterMasked,
  smallEntries,
} from '../src/index.ts';

const PREFIX = 'base_model.model.';

/** Parameters at the top of a model. */
class Holder extends Module<[]> {
  readonly held: Record<string, Parameter>;

  constructor(tensors: Record<string, Tensor>) {
    super();
    this.held = Object.fromEntries(Object.entries(tensors).map(([name, t]) => [name, new Parameter(t.clone())]));
  }

  forward(): never {
    throw new Error('Only its parameters are used.');
  }

  /** The weights in use, new tensors. */
  inUse(): Record<string, Tensor> {
    return Object.fromEntries(Object.entries(this.held).map(([name, p]) => [name, tidy(() => p.value.clone())]));
  }
}

/** Runs `run` on parameters with SaRA, and disposes of everything but what it returns. */
function withSara<T>(
  tensors: Record<string, Tensor>,
  config: SaraConfig,
  run: (handle: SaraModel, holder: Holder) => T,
): T {
  const holder = new Holder(tensors);
  const handle = attach(holder, sara(config));
  const outputs = run(handle, holder);
  handle.unload();
  holder.dispose();
  return outputs;
}

/** Where entries train: 1, else 0, in the shapes of the parameters. */
function masks(handle: SaraModel, { held }: Holder): Record<string, Tensor> {
  const entries = Object.entries(held).map(([name, { shape }]): [string, Tensor] => {
    const values = handle.values.get(`held.${name}`);
    if (values === undefined) return [name, zeros(shape)];
    return [
      name,
      tidy(() => scatterMasked(zeros(shape), values.places.stored, mul(values.trains(), ones([values.size])))),
    ];
  });
  return Object.fromEntries(entries);
}

/** One step of AdamW on the gradients of `loss`. */
function step(handle: SaraModel, optimizer: Optimizer, loss: () => Tensor): void {
  const { loss: value, grads } = lossAndGrads(loss, handle.parameters());
  optimizer.step(grads);
  value.dispose();
  disposeMap(grads);
}

interface AdamCase extends GoldenInputs {
  threshold: number;
  lr: number;
  betas: [number, number];
  eps: number;
  weight_decay: number;
}

const optimizerOf = (handle: SaraModel, { lr, betas: [b1, b2], eps, weight_decay: weightDecay }: AdamCase): Optimizer =>
  new Optimizer(handle.parameters(), adamw({ learningRate: lr, b1, b2, eps, weightDecay }));

interface StepsCase extends AdamCase {
  progressive_iter?: number | null;
  params: Record<string, Tensor>;
  grads: Record<string, Record<string, Tensor>>;
}

/** Some steps with given gradients, by the events of a run. */
function maskedAdamW(inputs: StepsCase) {
  const { threshold, params, grads } = inputs;
  const progressiveStep = inputs.progressive_iter || undefined;
  return withSara(params, { threshold, progressiveStep, lambdaRank: 0 }, (handle, holder) => {
    const initial_mask = masks(handle, holder);
    const optimizer = optimizerOf(handle, inputs);
    const callback = handle.callback();
    const params_after: Record<string, Record<string, Tensor>> = {};
    const mask_used: Record<string, Record<string, Tensor>> = {};
    for (let i = 1; grads[`step${i}`] !== undefined; i++) {
      mask_used[`step${i}`] = masks(handle, holder);
      const given = Object.entries(grads[`step${i}`]);
      step(handle, optimizer, () => addN(given.map(([name, g]) => sum(mul(holder.held[name].value, g)))));
      params_after[`step${i}`] = holder.inUse();
      callback.onEvent({ type: 'step', step: i });
    }
    optimizer.dispose();
    return { initial_mask, params_after, mask_used };
  });
}

export const saraGolden = defineGolden({
  'sara/masked_adamw': maskedAdamW,
  'sara/progressive_mask': maskedAdamW,

  'sara/nuclear_norm': ({ param, ...given }: { param: Tensor; threshold: number; lambda_rank: number }) => {
    const config = { threshold: given.threshold, lambdaRank: given.lambda_rank, minMatrixSide: 0, minMaskEntries: 0 };
    return withSara({ param }, config, (handle, holder) => {
      const { param: mask } = masks(handle, holder);
      handle.prepareRankTerm('held.param');
      const { loss, grads } = lossAndGrads(() => handle.rankTerm(), handle.parameters());
      const [values] = handle.values.values();
      const [gradient] = grads.values();
      const grad = tidy(() => scatterMasked(zeros(param.shape), values.places.stored, gradient));
      disposeMap(grads);
      const singular_values = tidy(() => svd(mul(param, mask) as Tensor2D).s);
      return { mask, loss, grad, singular_values };
    });
  },

  'sara/step_with_rank_loss': (
    inputs: AdamCase & { param: Tensor; grad_sparse_at_mask: Tensor; lambda_rank: number },
  ) => {
    const { param, threshold, lambda_rank: lambdaRank } = inputs;
    return withSara({ param }, { threshold, lambdaRank }, (handle) => {
      const [values] = handle.values.values();
      handle.callback().onEvent({ type: 'start', step: 0 });
      const loss = (): Tensor => add(sum(mul(values.sara_values.value, inputs.grad_sparse_at_mask)), handle.rankTerm());
      const { loss: value, grads } = lossAndGrads(loss, handle.parameters());
      const optimizer = optimizerOf(handle, inputs);
      optimizer.step(grads);
      optimizer.dispose();
      value.dispose();
      return {
        mask_count: values.size,
        masked_indices_flat: values.places.stored.clone(),
        total_grad_at_mask: [...grads.values()][0],
        params_after_at_mask: values.values(),
      };
    });
  },

  'sara/unstructural_backprop': (inputs: { matrix: Tensor; mask: Tensor; trainable: Tensor; grad_output: Tensor }) => {
    const selected = Int32Array.from(inputs.mask.dataSync().keys()).filter((i) => inputs.mask.dataSync()[i] !== 0);
    const places = tensor1d(selected, 'int32');
    const apply = (values: Tensor): Tensor => scatterMasked(inputs.matrix, places, values);
    const outputs = {
      matrix_out: apply(inputs.trainable),
      grad_trainable: tidy(() => grads(apply)([inputs.trainable], inputs.grad_output)[0]),
    };
    places.dispose();
    return outputs;
  },

  'sara/lr_rule_and_selection': ({ thresholds, param }: { thresholds: number[]; param: Tensor }) => ({
    default_lr: thresholds.map(saraLearningRate),
    selected: thresholds.map((threshold) => smallEntries(param.dataSync<'float32'>(), threshold).length),
  }),

  'sara/save_and_load': (inputs: {
    threshold: number;
    params: Record<string, Tensor>;
    loaded: Record<string, Tensor>;
  }) =>
    withSara(inputs.params, { threshold: inputs.threshold, lambdaRank: 0 }, (handle, holder) => {
      const fileName = (name: string): string => `${PREFIX}held.${name}.sara_values`;
      const state = handle.stateDict();
      const names = Object.keys(inputs.params);
      const saved = Object.fromEntries(names.map((name) => [name, state.get(fileName(name)) ?? tensor1d([])]));
      const loaded = Object.entries(inputs.loaded).filter(([, { size }]) => size > 0);
      handle.loadStateDict(new Map(loaded.map(([name, values]) => [fileName(name), values])));
      return { saved, params_after_load: holder.inUse() };
    }),
});
