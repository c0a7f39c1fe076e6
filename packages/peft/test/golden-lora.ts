import { Conv1D, Conv2d, Embedding } from '@ashlar/nn';
import {
  type AnyModule,
  abs,
  cast,
  grads,
  loadSafetensors,
  matMul,
  max,
  type Parameter,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import { attach, type LoraConfig, type LoraLayer, type LoraModel, lora } from '../src/index.ts';
import { combineFactors } from '../src/lora/combine.ts';
import { fromPeftConfig } from '../src/lora/files.ts';
import { matchesTarget, patternKey, type TargetOptions } from '../src/match.ts';
import { Holder, linear, rng, singularValues, Tree, withWeights } from './golden-layers.ts';

const PREFIX = 'base_model.model.';

interface LayerCase extends GoldenInputs {
  r: number;
  lora_alpha: number;
  use_rslora?: boolean;
  weight: Tensor;
  bias?: Tensor;
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

export const loraGolden = defineGolden({
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

function targetOptions(config: Record<string, unknown>): TargetOptions {
  return {
    targetModules: config.target_modules as string | string[],
    excludeModules: config.exclude_modules as string | string[] | undefined,
    modulesToSave: config.modules_to_save as string[] | undefined,
    layersToTransform: config.layers_to_transform as number | number[] | undefined,
    layersPattern: config.layers_pattern as string | string[] | undefined,
  };
}
