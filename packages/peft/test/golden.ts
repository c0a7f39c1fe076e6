import { type CausalLM, createModel } from '@ashlar/models';
import { Conv1D, Conv2d, Embedding, Linear } from '@ashlar/nn';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  type AnyModule,
  abs,
  add,
  cast,
  crossEntropy,
  disposeMap,
  euclideanNorm,
  gather,
  grads,
  loadSafetensors,
  lossAndGrads,
  Module,
  matMul,
  max,
  type Parameter,
  Rng,
  range,
  relu,
  reshape,
  slice,
  stack,
  svd,
  type Tensor,
  type Tensor2D,
  tensor1d,
  tensor2d,
  tidy,
  zerosLike,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import {
  attach,
  type Head,
  type LofitHeads,
  type LofitModel,
  type LoraConfig,
  type LoraLayer,
  type LoraModel,
  lofit,
  lora,
  rankForEnergy,
  type SVFitLayer,
  type SVFitModel,
  svfit,
} from '../src/index.ts';
import { l1, topHeads } from '../src/lofit.ts';
import { combineFactors } from '../src/lora/combine.ts';
import { fromPeftConfig } from '../src/lora/files.ts';
import { matchesTarget, patternKey, type TargetOptions } from '../src/match.ts';
import { gladGolden } from './golden-glad.ts';
import { saraGolden } from './golden-sara.ts';

class Holder extends Module {
  layer: AnyModule;
  constructor(layer: AnyModule) {
    super();
    this.layer = layer;
  }
  forward(x: Tensor): Tensor {
    return this.layer.apply(x);
  }
}

const PREFIX = 'base_model.model.';

/** Layers at given paths, as a model would hold them. */
class Tree extends Module {
  put(path: string, layer: AnyModule): void {
    const words = path.split('.');
    const last = words.pop() as string;
    let node = this as unknown as Record<string, unknown>;
    for (const word of words) {
      node[word] ??= {};
      node = node[word] as Record<string, unknown>;
    }
    node[last] = layer;
  }

  forward(): Tensor {
    throw new Error('Only its layers run.');
  }
}

interface LayerCase extends GoldenInputs {
  r: number;
  lora_alpha: number;
  use_rslora?: boolean;
  weight: Tensor;
  bias?: Tensor;
}

const rng = new Rng(0);

function linear({ weight, bias }: { weight: Tensor; bias?: Tensor }): Linear {
  const layer = new Linear(weight.shape[1] as number, weight.shape[0], { bias: bias !== undefined, rng });
  return withWeights(layer, weight, bias);
}

function withWeights<T extends { weight: Parameter; bias?: Parameter }>(layer: T, weight: Tensor, bias?: Tensor): T {
  layer.weight.assign(weight.clone());
  if (bias !== undefined) layer.bias?.assign(bias.clone());
  return layer;
}

/** Attaches an adapter to `layer`, runs `run` on it, and disposes of everything but what `run` returns. */
function withAdapter(
  layer: AnyModule,
  inputs: LayerCase,
  options: LoraConfig,
  run: (adapted: LoraLayer, handle: LoraModel) => GoldenOutputs,
): GoldenOutputs {
  const holder = new Holder(layer);
  const { r, lora_alpha: loraAlpha, use_rslora: useRslora = false } = inputs;
  const handle = attach(holder, lora({ targetModules: ['layer'], r, loraAlpha, useRslora, ...options }));
  const outputs = run(handle.layers.get('layer') as LoraLayer, handle);
  handle.unload();
  holder.dispose();
  return outputs;
}

function setFactors(adapted: LoraLayer, A: Tensor, B: Tensor): void {
  const own = adapted.factors('default');
  own.A.assign(A.clone());
  own.B.assign(B.clone());
}

/** Output and gradients of `sum(layer(x) * gradOutput)` by the factors and further tensors. */
function forwardBackward(
  adapted: LoraLayer,
  x: Tensor,
  gradOutput: Tensor,
  parameters: Parameter[],
): { y: Tensor; gradX: Tensor; grads: Tensor[] } {
  const gradients = tidy(() =>
    grads((input: Tensor) => adapted.apply(input))([x, ...parameters.map((p) => p.stored)] as Tensor[], gradOutput),
  );
  return { y: adapted.apply(x), gradX: gradients[0], grads: gradients.slice(1) };
}

interface ForwardCase extends LayerCase {
  lora_A: Tensor;
  lora_B: Tensor;
  x: Tensor;
  grad_output: Tensor;
}

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

interface LofitCase extends GoldenInputs {
  num_heads: number;
  num_kv_heads?: number;
  head_dim: number;
  rope_base?: number;
  x: Tensor;
  q_proj: Tensor;
  k_proj: Tensor;
  v_proj: Tensor;
  o_proj: Tensor;
}

/** A Llama's attention layer with the weights of `inputs`. */
function attention(inputs: LofitCase): { model: CausalLM; layer: AnyModule; run(x: Tensor): Tensor } {
  const { num_heads, num_kv_heads = num_heads, head_dim, rope_base = 10000, x } = inputs;
  const model = createModel(
    {
      model_type: 'llama',
      vocab_size: 1,
      hidden_size: x.shape[2],
      intermediate_size: 1,
      num_hidden_layers: 1,
      num_attention_heads: num_heads,
      num_key_value_heads: num_kv_heads,
      head_dim,
      rope_theta: rope_base,
    },
    { rng },
  );
  const layer = model.getSubmodule('model.layers.0.self_attn');
  for (const name of ['q_proj', 'k_proj', 'v_proj', 'o_proj'] as const) {
    layer.getParameter(`${name}.weight`).assign(inputs[name].clone());
  }
  const run = (input: Tensor): Tensor =>
    tidy(() => layer.apply(input, { positions: range(0, input.shape[1] as number, 1, 'int32') }));
  return { model, layer, run };
}

const ATTENTION_OUTPUT = 'model.layers.0.self_attn.o_proj';

/** Forward and backward with scalings and offsets of all heads. */
function scaledAndShifted(inputs: LofitCase & { A: Tensor; v: Tensor; grad_output: Tensor }): GoldenOutputs {
  const { model, run } = attention(inputs);
  const { x, grad_output } = inputs;
  const y_base = run(x);
  const handle = attach(model, lofit({ scale: true }));
  const { A, v } = handle.layers.get(ATTENTION_OUTPUT) as LofitHeads;
  A?.assign(inputs.A.clone());
  v?.assign(inputs.v.clone());
  const y = run(x);
  const [grad_x, grad_A, grad_v] = tidy(() =>
    grads((input: Tensor) => run(input))([x, A?.stored, v?.stored] as Tensor[], grad_output),
  );
  handle.unload();
  model.dispose();
  return { y_base, y, grad_A, grad_v, grad_x };
}

export default defineGolden({
  ...gladGolden,
  ...saraGolden,

  'lofit/attention_scale_and_bias': scaledAndShifted,

  'lofit/attention_bias_only_gqa': (inputs: LofitCase & { A: Tensor; v: Tensor; grad_output: Tensor }) => {
    const outputs = scaledAndShifted(inputs);
    const { model } = attention(inputs);
    const handle = attach(model, lofit());
    handle.layers.get(ATTENTION_OUTPUT)?.v?.assign(inputs.v.clone());
    handle.merge();
    const equivalent_o_proj_bias = model.getParameter(`${ATTENTION_OUTPUT}.bias`).stored.clone();
    handle.unload();
    model.dispose();
    return { ...outputs, equivalent_o_proj_bias };
  },

  'lofit/head_selection': ({ A, k, l1_lambda }: { A: Tensor; k: number; l1_lambda: number }) => {
    const heads = A.shape[1] as number;
    const head_norms = tidy(() => euclideanNorm(A, 2));
    const scores = Array.from(head_norms.dataSync());
    const l1_penalty = l1(A, l1_lambda);
    const grad_l1 = tidy(() => grads((x: Tensor) => l1(x, l1_lambda))([A])[0]);
    return {
      head_norms,
      top_heads: tensor2d(topHeads(scores, k).map((i) => [Math.floor(i / heads), i % heads])),
      l1_penalty,
      grad_l1,
    };
  },

  'lofit/two_stage_training': (
    inputs: LofitCase & {
      labels: Tensor;
      readout: Tensor;
      A_init: Tensor;
      v_init: Tensor;
      l1_lambda: number;
      lr: number;
      steps: number;
      k: number;
    },
  ) => {
    const { model, run } = attention(inputs);
    const { x, readout, l1_lambda, lr, steps, k } = inputs;
    const labels = cast(inputs.labels, 'int32');
    const stage = (handle: LofitModel): number[] => {
      const parameters = handle.parameters();
      const optimizer = new Optimizer(parameters, adamw({ learningRate: lr, weightDecay: 0 }));
      const objective = (): Tensor => {
        const y = run(x);
        const last = reshape(slice(y, [0, (y.shape[1] as number) - 1, 0], [-1, 1, -1]), [y.shape[0], -1]);
        return add(crossEntropy(matMul(last, readout, false, true), labels), handle.l1Penalty(l1_lambda));
      };
      const losses: number[] = [];
      for (let step = 0; step < steps; step++) {
        const { loss, grads } = lossAndGrads(objective, parameters);
        losses.push(loss.dataSync()[0]);
        optimizer.step(grads);
        loss.dispose();
        disposeMap(grads);
      }
      optimizer.dispose();
      return losses;
    };
    const first = attach(model, lofit({ scale: true, offset: false }));
    const { A } = first.layers.get(ATTENTION_OUTPUT) as LofitHeads;
    A?.assign(inputs.A_init.clone());
    const stage1_losses = stage(first);
    const A_final = A?.stored.clone();
    const head_norms = first.scores();
    const chosen = topHeads(head_norms, k);
    first.unload();
    const second = attach(model, lofit({ heads: chosen.map((head): Head => [0, head]) }));
    const { v } = second.layers.get(ATTENTION_OUTPUT) as LofitHeads;
    v?.assign(gather(inputs.v_init, chosen));
    const stage2_losses = stage(second);
    const v_final = tidy(() => reshape(v?.stored as Tensor, k === 1 ? [-1] : [k, -1]));
    second.unload();
    model.dispose();
    labels.dispose();
    return {
      stage1_losses,
      A_final,
      head_norms: tensor1d(head_norms),
      selected_head: chosen[0],
      stage2_losses,
      v_final,
    };
  },

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

  'lora/linear': (inputs: ForwardCase) =>
    withAdapter(linear(inputs), inputs, {}, (adapted, handle) => {
      setFactors(adapted, inputs.lora_A, inputs.lora_B);
      const { A, B } = adapted.factors('default');
      const { y, gradX, grads } = forwardBackward(adapted, inputs.x, inputs.grad_output, [A, B]);
      const delta_weight = adapted.deltaWeight('default');
      handle.merge();
      return {
        scaling: adapted.adapter('default').scaling,
        y,
        grad_x: gradX,
        grad_lora_A: grads[0],
        grad_lora_B: grads[1],
        delta_weight,
        merged_weight: adapted.base_layer.weight.stored.clone(),
        y_merged: adapted.apply(inputs.x),
      };
    }),

  'lora/dora_forward_backward': (inputs: ForwardCase & { magnitude: Tensor }) =>
    withAdapter(linear(inputs), inputs, { useDora: true }, (adapted, handle) => {
      const magnitude = adapted.lora_magnitude_vector.default;
      const magnitude_at_init = magnitude.stored.clone();
      setFactors(adapted, inputs.lora_A, inputs.lora_B);
      magnitude.assign(inputs.magnitude.clone());
      const { A, B } = adapted.factors('default');
      const { y, gradX, grads } = forwardBackward(adapted, inputs.x, inputs.grad_output, [A, B, magnitude]);
      handle.merge();
      const merged_weight = adapted.base_layer.weight.stored.clone();
      const y_merged = adapted.apply(inputs.x);
      handle.unmerge();
      return {
        magnitude_at_init,
        y,
        grad_x: gradX,
        grad_lora_A: grads[0],
        grad_lora_B: grads[1],
        grad_magnitude: grads[2],
        merged_weight,
        y_merged,
        unmerged_weight: adapted.base_layer.weight.stored.clone(),
      };
    }),

  'lora/conv2d': (inputs: ForwardCase & { stride: number; padding: number; dilation?: number; groups?: number }) => {
    const { weight, bias, stride, padding, dilation = 1, groups = 1 } = inputs;
    const [outChannels, perGroup, kernelHeight, kernelWidth] = weight.shape;
    const layer = new Conv2d(perGroup * groups, outChannels, [kernelHeight, kernelWidth], {
      stride,
      padding,
      dilation,
      groups,
      bias: bias !== undefined,
      rng,
    });
    return withAdapter(withWeights(layer, weight, bias), inputs, {}, (adapted) => {
      setFactors(adapted, inputs.lora_A, inputs.lora_B);
      const { A, B } = adapted.factors('default');
      const { y, gradX, grads } = forwardBackward(adapted, inputs.x, inputs.grad_output, [A, B]);
      return {
        y,
        delta_weight: adapted.deltaWeight('default'),
        grad_lora_A: grads[0],
        grad_lora_B: grads[1],
        grad_x: gradX,
      };
    });
  },

  'lora/embedding': (
    inputs: LayerCase & { lora_embedding_A: Tensor; lora_embedding_B: Tensor; indices: Tensor; grad_output: Tensor },
  ) => {
    const { weight } = inputs;
    const layer = withWeights(new Embedding(weight.shape[0], weight.shape[1] as number, { rng }), weight);
    return withAdapter(layer, inputs, {}, (adapted) => {
      const { A, B } = adapted.factors('default');
      const largest = tidy(() => max(abs(A.stored)));
      setFactors(adapted, inputs.lora_embedding_A, inputs.lora_embedding_B);
      const indices = cast(inputs.indices, 'int32');
      const outputs = tidy(() => {
        const run = (): Tensor => adapted.apply(indices);
        const gradients = grads(run as (...args: Tensor[]) => Tensor)([A.stored, B.stored], inputs.grad_output);
        return { y: run(), grad_lora_embedding_A: gradients[0], grad_lora_embedding_B: gradients[1] };
      });
      indices.dispose();
      return { max_abs_A_at_init: largest, ...outputs, delta_weight: adapted.deltaWeight('default') };
    });
  },

  'lora/fan_in_fan_out_merge': (inputs: LayerCase & { lora_A: Tensor; lora_B: Tensor }) => {
    const { weight, bias } = inputs;
    const layer = withWeights(new Conv1D(weight.shape[0], weight.shape[1] as number, { rng }), weight, bias);
    return withAdapter(layer, inputs, {}, (adapted, handle) => {
      setFactors(adapted, inputs.lora_A, inputs.lora_B);
      const delta_weight = adapted.deltaWeight('default');
      handle.merge();
      return { delta_weight, merged_weight: adapted.base_layer.weight.stored.clone() };
    });
  },

  'lora/pissa_init': (inputs: LayerCase) => takenOut(inputs, 'pissa'),
  'lora/olora_init': (inputs: LayerCase) => takenOut(inputs, 'olora'),

  'lora/target_module_matching': (inputs: {
    module_names: string[];
    configs: Record<string, unknown>[];
    pattern_keys: string[][];
  }) => ({
    matched: inputs.configs.map((config) =>
      inputs.module_names.map((name) => matchesTarget(name, targetOptions(config))),
    ),
    pattern_key_for_name: inputs.pattern_keys.map((keys) => inputs.module_names.map((name) => patternKey(keys, name))),
  }),

  'lora/weighted_adapters': (inputs: {
    lora_A_a: Tensor;
    lora_B_a: Tensor;
    lora_A_b: Tensor;
    lora_B_b: Tensor;
    scaling_a: number;
    scaling_b: number;
    weights_cat: number[];
    weights_linear: number[];
  }) =>
    tidy(() => {
      const combine = (type: 'cat' | 'linear', weights: number[]): { A: Tensor; B: Tensor } =>
        combineFactors(
          [
            { A: inputs.lora_A_a, B: inputs.lora_B_a, scaling: inputs.scaling_a, weight: weights[0] },
            { A: inputs.lora_A_b, B: inputs.lora_B_b, scaling: inputs.scaling_b, weight: weights[1] },
          ],
          type,
        );
      const cat = combine('cat', inputs.weights_cat);
      const sum = combine('linear', inputs.weights_linear);
      return {
        cat_lora_A: cat.A,
        cat_lora_B: cat.B,
        cat_delta: matMul(cat.B, cat.A),
        linear_lora_A: sum.A,
        linear_lora_B: sum.B,
        linear_delta: matMul(sum.B, sum.A),
      };
    }),

  'lora/adapter_files': async (inputs: {
    adapter_config: Record<string, unknown>;
    adapter_model_safetensors_base64: string;
    base_weights: Record<string, Tensor>;
    x: Tensor;
  }) => {
    const bytes = Uint8Array.from(atob(inputs.adapter_model_safetensors_base64), (char) => char.charCodeAt(0));
    const tensors = await loadSafetensors(bytes);
    const config = fromPeftConfig(inputs.adapter_config);
    const model = new Tree();
    for (const [name, weight] of Object.entries(inputs.base_weights)) {
      if (!name.endsWith('.weight')) continue;
      const path = name.slice(PREFIX.length, -'.weight'.length);
      model.put(path, linear({ weight, bias: inputs.base_weights[`${PREFIX}${path}.bias`] }));
    }
    for (const path of config.modulesToSave ?? []) {
      const weight = tensors.get(`${PREFIX}${path}.weight`) as Tensor;
      model.put(path, linear({ weight, bias: tensors.get(`${PREFIX}${path}.bias`) }));
    }
    const handle = attach(model, lora(config));
    handle.loadStateDict('default', tensors);
    const layers: Record<string, GoldenOutputs> = {};
    const layer_outputs: Record<string, Tensor> = {};
    for (const [path, layer] of handle.layers) {
      const { r, loraAlpha, scaling } = layer.adapter('default');
      layers[PREFIX + path] = { r, lora_alpha: loraAlpha, scaling };
      layer_outputs[PREFIX + path] = layer.apply(inputs.x);
    }
    handle.unload();
    model.dispose();
    return { state_dict: Object.fromEntries(tensors), layers, layer_outputs };
  },
});

function takenOut(inputs: LayerCase, initLoraWeights: 'pissa' | 'olora'): GoldenOutputs {
  return withAdapter(linear(inputs), inputs, { initLoraWeights }, (adapted) => {
    const { A, B } = adapted.factors('default');
    const outputs = {
      product_BA: matMul(B.stored, A.stored),
      residual_weight: adapted.base_layer.weight.stored.clone(),
      abs_A: abs(A.stored),
      abs_B: abs(B.stored),
    };
    if (initLoraWeights === 'olora') return outputs;
    return { ...outputs, scaling: adapted.adapter('default').scaling, singular_values: singularValues(inputs.weight) };
  });
}

function singularValues(weight: Tensor): Tensor {
  const { u, s, vt } = svd(weight as Tensor2D);
  u.dispose();
  vt.dispose();
  return s;
}

function targetOptions(config: Record<string, unknown>): TargetOptions {
  return {
    targetModules: config.target_modules as string | string[],
    excludeModules: config.exclude_modules as string | string[] | undefined,
    modulesToSave: config.modules_to_save as string[] | undefined,
    layersToTransform: config.layers_to_transform as number | number[] | undefined,
    layersPattern: config.layers_pattern as string | string[] | undefined,
  };
}
