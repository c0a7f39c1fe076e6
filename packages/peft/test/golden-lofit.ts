import { type CausalLM, createModel } from '@ashlar/models';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  type AnyModule,
  add,
  cast,
  crossEntropy,
  disposeMap,
  euclideanNorm,
  gather,
  grads,
  lossAndGrads,
  matMul,
  range,
  reshape,
  slice,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import { attach, type Head, type LofitHeads, type LofitModel, lofit } from '../src/index.ts';
import { l1, topHeads } from '../src/lofit/select-heads.ts';
import { rng } from './golden-layers.ts';

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

export const lofitGolden = defineGolden({
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
});
