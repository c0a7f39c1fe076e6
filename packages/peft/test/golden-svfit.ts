import { Conv2d } from '@ashlar/nn';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  type AnyModule,
  add,
  cast,
  crossEntropy,
  disposeMap,
  grads,
  lossAndGrads,
  type Parameter,
  relu,
  stack,
  type Tensor,
  tidy,
  zerosLike,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import { attach, rankForEnergy, type SVFitLayer, type SVFitModel, svfit } from '../src/index.ts';
import { Holder, linear, rng, singularValues, Tree, withWeights } from './golden-layers.ts';

interface SVFitCase extends GoldenInputs {
  r: number;
  weight: Tensor;
  bias?: Tensor;
  x: Tensor;
  sigma: Tensor;
}

/** Attaches SVFit to `layer`; `run` gets it with sigma as it starts, and disposes of nothing. */
function withSVFit(
  layer: AnyModule,
  r: number,
  run: (adapted: SVFitLayer, handle: SVFitModel) => GoldenOutputs,
): GoldenOutputs {
  const holder = new Holder(layer);
  const handle = attach(holder, svfit({ targetModules: ['layer'], r }));
  const outputs = run(handle.layers.get('layer') as SVFitLayer, handle);
  handle.unload();
  holder.dispose();
  return outputs;
}

/** `W - U diag(S) V^T`: what is left of the weight without the directions that train. */
function residual(adapted: SVFitLayer): Tensor {
  const sigma = adapted.svfit_sigma as Parameter;
  const trained = sigma.exchange(zerosLike(sigma.stored));
  const left = tidy(() => add(adapted.base_layer.weight.stored, adapted.deltaWeight()));
  sigma.assign(trained);
  return left;
}

export const svfitGolden = defineGolden({
  'svfit/linear': (inputs: SVFitCase & { grad_output: Tensor }) =>
    withSVFit(linear(inputs), inputs.r, (adapted, handle) => {
      const { x, sigma, grad_output } = inputs;
      const own = adapted.svfit_sigma as Parameter;
      const outputs = {
        sigma_init: own.stored.clone(),
        all_singular_values: singularValues(inputs.weight),
        residual_weight: residual(adapted),
        y_at_init: adapted.apply(x),
      };
      own.assign(sigma.clone());
      const gradients = tidy(() =>
        grads((input: Tensor) => adapted.apply(input))([x, own.stored] as Tensor[], grad_output),
      );
      const [grad_x, grad_sigma] = gradients;
      const y = adapted.apply(x);
      const delta_weight = adapted.deltaWeight();
      handle.merge();
      const merged_weight = adapted.base_layer.weight.stored.clone();
      return { ...outputs, y, grad_sigma, grad_x, merged_weight, delta_weight };
    }),

  'svfit/conv2d': (inputs: SVFitCase & { stride?: number; padding?: number; dilation?: number; groups?: number }) => {
    const { weight, bias, x, sigma, r, stride, padding, dilation, groups = 1 } = inputs;
    const [outChannels, perGroup, ...kernel] = weight.shape as [number, number, number, number];
    const options = { stride, padding, dilation, groups, bias: bias !== undefined, rng };
    const layer = withWeights(new Conv2d(perGroup * groups, outChannels, kernel, options), weight, bias);
    return withSVFit(layer, r, (adapted, handle) => {
      const own = adapted.svfit_sigma as Parameter;
      const outputs = { sigma_init: own.stored.clone(), residual_weight: residual(adapted) };
      own.assign(sigma.clone());
      const y = adapted.apply(x);
      handle.merge();
      return { ...outputs, effective_weight: layer.weight.stored.clone(), y };
    });
  },

  'svfit/rank_for_energy': ({ weight, thresholds }: { weight: Tensor; thresholds: number[] }) => {
    const singular_values = singularValues(weight);
    const values = singular_values.dataSync();
    const squares = Array.from(values, (value) => value ** 2);
    const sum = (terms: readonly number[]): number => terms.reduce((total, term) => total + term, 0);
    const cumulative = squares.map((_, i) => sum(squares.slice(0, i + 1)) / sum(squares));
    return {
      singular_values,
      cumulative_energy: { shape: [cumulative.length], data: cumulative },
      rank_squared: thresholds.map((tau) => rankForEnergy(values, tau)),
      rank_linear: thresholds.map((tau) => rankForEnergy(values, tau, 'linear')),
    };
  },

  'svfit/train_three_steps': (inputs: {
    r: number;
    weight_1: Tensor;
    bias_1?: Tensor;
    weight_2: Tensor;
    bias_2?: Tensor;
    x: Tensor;
    labels: Tensor;
    lr: number;
  }) => {
    const model = new Tree();
    const first = linear({ weight: inputs.weight_1, bias: inputs.bias_1 });
    const second = linear({ weight: inputs.weight_2, bias: inputs.bias_2 });
    model.put('first', first);
    model.put('second', second);
    const handle = attach(model, svfit({ targetModules: ['first', 'second'], r: inputs.r }));
    const [one, two] = [...handle.layers.values()];
    const parameters = handle.parameters();
    const optimizer = new Optimizer(parameters, adamw({ learningRate: inputs.lr, weightDecay: 0 }));
    const labels = cast(inputs.labels, 'int32');
    const losses: number[] = [];
    const sigmas: [Tensor, Tensor][] = [];
    for (let step = 0; step < 3; step++) {
      const { loss, grads } = lossAndGrads(
        () => crossEntropy(two.apply(relu(one.apply(inputs.x))), labels),
        parameters,
      );
      losses.push(loss.dataSync()[0]);
      optimizer.step(grads);
      sigmas.push([one, two].map(({ svfit_sigma }) => (svfit_sigma as Parameter).stored.clone()) as [Tensor, Tensor]);
      loss.dispose();
      disposeMap(grads);
    }
    const [sigma_1_after_step, sigma_2_after_step] = [0, 1].map((layer) => stack(sigmas.map((pair) => pair[layer])));
    for (const tensor of [labels, ...sigmas.flat()]) tensor.dispose();
    optimizer.dispose();
    handle.unload();
    model.dispose();
    return { losses, sigma_1_after_step, sigma_2_after_step };
  },
});
