import { EqualizedLinear, SynthesisLayer, ToRGBLayer } from '@ashlar/nn';
import { type AnyModule, grads, type Parameter, scalar, type Tensor, tidy } from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import { attach, type LowRankConvModel, type LowRankUpdate, lowRankConv } from '../src/index.ts';
import { rng, Tree, withWeights } from './golden-layers.ts';

interface AdapterCase extends GoldenInputs {
  r: number;
  lora_alpha: number;
}

/** Attaches low-rank updates to `layer`, the sole one of a model; `run` gets them by path. */
function withUpdates(
  layer: AnyModule,
  { r, lora_alpha: loraAlpha }: AdapterCase,
  run: (update: (path: string) => LowRankUpdate, handle: LowRankConvModel) => GoldenOutputs,
): GoldenOutputs {
  const model = new Tree();
  model.put('layer', layer);
  const handle = attach(model, lowRankConv({ r, loraAlpha }));
  const outputs = run((path) => handle.layers.get(path) as LowRankUpdate, handle);
  handle.unload();
  model.dispose();
  return outputs;
}

function setFactors({ lora_A, lora_B }: LowRankUpdate, A: Tensor, B: Tensor): Parameter[] {
  lora_A.assign(A.clone());
  lora_B.assign(B.clone());
  return [lora_A, lora_B];
}

/** Gradients of `sum(run() * gradOutput)` by the parameters. */
const gradients = (run: () => Tensor, parameters: readonly Parameter[], gradOutput: Tensor): Tensor[] =>
  tidy(() =>
    grads(run)(
      parameters.map(({ stored }) => stored),
      gradOutput,
    ),
  );

const sizeOf = (parameters: Iterable<Parameter>): number => [...parameters].reduce((n, { size }) => n + size, 0);

export const my3dgenGolden = defineGolden({
  'my3dgen/affine_layer': (
    inputs: AdapterCase & {
      weight: Tensor;
      bias: Tensor;
      lora_A: Tensor;
      lora_B: Tensor;
      x: Tensor;
      grad_output: Tensor;
    },
  ) => {
    const [out, dim] = inputs.weight.shape as [number, number];
    const layer = withWeights(new EqualizedLinear(dim, out, { rng }), inputs.weight, inputs.bias);
    return withUpdates(layer, inputs, (update) => {
      const factors = setFactors(update('layer'), inputs.lora_A, inputs.lora_B);
      const run = (): Tensor => layer.apply(inputs.x);
      const [grad_lora_A, grad_lora_B, grad_bias] = gradients(
        run,
        [...factors, layer.bias as Parameter],
        inputs.grad_output,
      );
      return { weight_gain: layer.weightGain, y: run(), grad_lora_A, grad_lora_B, grad_bias };
    });
  },

  'my3dgen/modulated_conv': (
    inputs: AdapterCase & {
      kernel_size: number;
      resolution: number;
      up: number;
      weight: Tensor;
      bias: Tensor;
      affine_weight: Tensor;
      affine_bias: Tensor;
      noise_const: Tensor;
      noise_strength: number;
      lora_A: Tensor;
      lora_B: Tensor;
      affine_lora_A: Tensor;
      affine_lora_B: Tensor;
      x: Tensor;
      w: Tensor;
      grad_output: Tensor;
    },
  ) => {
    const { kernel_size: kernelSize, resolution, up, weight, affine_weight, affine_bias } = inputs;
    const [out, channels] = weight.shape as [number, number];
    const options = { kernelSize, upsample: up === 2, rng };
    const layer = withWeights(
      new SynthesisLayer(channels, out, inputs.w.shape[1] as number, resolution, options),
      weight,
      inputs.bias,
    );
    withWeights(layer.affine, affine_weight, affine_bias);
    layer.noise_const.assign(inputs.noise_const.clone());
    layer.noise_strength.assign(scalar(inputs.noise_strength));
    return withUpdates(layer, inputs, (update) => {
      const factors = [
        ...setFactors(update('layer'), inputs.lora_A, inputs.lora_B),
        ...setFactors(update('layer.affine'), inputs.affine_lora_A, inputs.affine_lora_B),
      ];
      const run = (): Tensor => layer.apply(inputs.x, inputs.w);
      const [grad_lora_A, grad_lora_B, grad_affine_lora_A, grad_affine_lora_B] = gradients(
        run,
        factors,
        inputs.grad_output,
      );
      const delta_weight = update('layer').delta(weight.shape);
      return { y: run(), delta_weight, grad_lora_A, grad_lora_B, grad_affine_lora_A, grad_affine_lora_B };
    });
  },

  'my3dgen/parameter_count': (inputs: {
    ranks: number[];
    w_dim: number;
    backbone_resolutions: number[];
    backbone_rgb_channels: number;
    superresolution: [number, number][];
  }) => {
    const { ranks, w_dim: w, backbone_resolutions: resolutions, backbone_rgb_channels: rgb, superresolution } = inputs;
    const channels = (resolution: number): number => Math.min(32768 / resolution, 512);
    const generator = new Tree();
    const block = (name: string, from: number | undefined, to: number, colors: number): void => {
      if (from !== undefined) generator.put(`${name}.conv0`, new SynthesisLayer(from, to, w, 4, { rng }));
      generator.put(`${name}.conv1`, new SynthesisLayer(to, to, w, 4, { rng }));
      generator.put(`${name}.torgb`, new ToRGBLayer(to, colors, w, { rng }));
    };
    for (const [i, resolution] of resolutions.entries()) {
      const from = i === 0 ? undefined : channels(resolutions[i - 1]);
      block(`b${resolution}`, from, channels(resolution), rgb);
    }
    for (const [i, [from, to]] of superresolution.entries()) block(`superresolution${i}`, from, to, 3);
    const full = sizeOf(generator.parameters());
    const counted = (model: AnyModule, r: number, trainBiases = false): number => {
      const handle = attach(model, lowRankConv({ r, trainBiases }));
      const count = sizeOf(handle.parameters().values());
      handle.unload();
      return count;
    };
    const single = (layer: AnyModule): number[] => {
      const model = new Tree();
      model.put('layer', layer);
      const counts = ranks.map((r) => counted(model, r));
      model.dispose();
      return counts;
    };
    const adapter_parameters = ranks.map((r) => counted(generator, r));
    const biases_and_noise = counted(generator, 1, true) - counted(generator, 1);
    generator.dispose();
    return {
      adapter_parameters,
      single_layer_512_512_k3: single(new SynthesisLayer(512, 512, w, 4, { rng })),
      single_rgb_512_96_k1: single(new ToRGBLayer(512, 96, w, { rng })),
      biases_and_noise,
      full_parameters_of_these_layers: full,
    };
  },
});
