import { attend, Linear, mergeHeads, splitHeads } from '@ashlar/nn';
import {
  type AnyModule,
  add,
  cast,
  gather,
  grads,
  lossAndGrads,
  mul,
  Rng,
  reshape,
  type Scalar,
  split,
  sum,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import {
  contrastivePositionLoss,
  digitAttentionMask,
  nearestCandidate,
  PositionInjection,
  type PositionInjectionOptions,
  positionDigits,
  positionTransferLoss,
  SequentialPositionEncoder,
} from '../src/index.ts';

const scalar1 = (x: Tensor): Tensor => reshape(x, [1]);

/** Gives the parameters of `module` the case's values, copied. */
function load(module: AnyModule, inputs: GoldenInputs): void {
  for (const [name, parameter] of module.namedParameters()) {
    parameter.assign((inputs[`param.${name}`] as Tensor).clone());
  }
}

const named = (gradients: ReadonlyMap<string, Tensor>): GoldenOutputs =>
  Object.fromEntries([...gradients].map(([name, gradient]) => [`grad.${name}`, gradient]));

function digits(inputs: {
  positions: Tensor;
  max_digits: number;
  pad_value?: number;
  base?: number;
  left_padding?: boolean;
}): GoldenOutputs {
  const { positions, max_digits: maxDigits, pad_value: padValue, base, left_padding: leftPad } = inputs;
  const { digits, mask } = positionDigits(positions, { maxDigits, padValue, base, leftPad });
  const masks = (['causal', 'bidirectional'] as const).flatMap((direction) =>
    [true, false].flatMap((maskPadding) =>
      [true, false].map((summaryToken): [string, Tensor] => [
        `mask_${direction === 'causal' ? 'causal' : 'bi'}_pad${Number(maskPadding)}_cls${Number(summaryToken)}`,
        digitAttentionMask(mask, { direction, maskPadding, summaryToken }),
      ]),
    ),
  );
  return { digits, pad_mask: mask, ...Object.fromEntries(masks) };
}

function encoder(inputs: GoldenInputs): GoldenOutputs {
  const { positions, loss_weight: weight } = inputs as { positions: Tensor; loss_weight: Tensor };
  const options = inputs as Record<string, number> & Record<string, boolean>;
  const model = new SequentialPositionEncoder({
    dim: options.dim,
    outDim: (inputs['param.out_proj.weight'] as Tensor).shape[0],
    heads: options.heads,
    layers: options.layers,
    maxDigits: options.max_digits,
    axes: options.data_dim,
    base: (inputs['param.token_of_seqpe_embed.weight'] as Tensor).shape[0],
    direction: options.causal === false ? 'bidirectional' : 'causal',
    maskPadding: options.mask_padding,
    summaryToken: 'param.cls_token_embed' in inputs,
    finalNorm: options.final_norm,
    temperature: options.temperature,
    activation: (inputs.activation as string | undefined)?.replace('gelu_tanh', 'gelu_new'),
    eps: options.layer_norm_epsilon,
    rng: new Rng(0),
  }).eval();
  load(model, inputs);
  const embedding = model.apply(positions);
  const { loss, grads } = lossAndGrads(
    () => sum(mul(model.apply(positions), weight)) as Scalar,
    model.trainableParameters(),
  );
  model.dispose();
  return { embedding, loss: scalar1Of(loss), ...named(grads) };
}

function scalar1Of(loss: Tensor): Tensor {
  const out = scalar1(loss);
  loss.dispose();
  return out;
}

function contrastive(
  inputs: {
    pivot: Tensor;
    candidates: Tensor;
    heads: number;
    multi_head: boolean;
    logit_scale?: number;
    label_smoothing?: number;
  },
  raw: GoldenInputs,
): GoldenOutputs {
  const { pivot, candidates, heads, multi_head, logit_scale: logitScale, label_smoothing: labelSmoothing } = inputs;
  const rows = (name: string): number[][] => {
    const { shape, data } = raw[name] as unknown as { shape: number[]; data: number[] };
    const axes = shape.length === (name === 'pivot_positions' ? 2 : 3) ? (shape.at(-1) as number) : 1;
    return Array.from({ length: data.length / axes }, (_, i) => data.slice(i * axes, (i + 1) * axes));
  };
  const pivots = rows('pivot_positions');
  const others = rows('candidate_positions');
  const each = others.length / pivots.length;
  const labels = pivots.map((place, i) => nearestCandidate(place, others.slice(i * each, (i + 1) * each)));
  const options = { heads: multi_head ? heads : 1, logitScale, labelSmoothing };
  return tidy(() => {
    const wanted = cast(labels, 'int32');
    const loss = (...all: Tensor[]): Tensor => contrastivePositionLoss(all[0], all[1], wanted, options);
    const [gradPivot, gradCandidates] = grads(loss)([pivot, candidates]);
    return {
      labels: wanted,
      loss: scalar1(loss(pivot, candidates)),
      'grad.pivot': gradPivot,
      'grad.candidates': gradCandidates,
    };
  });
}

function transfer(inputs: {
  main: Tensor;
  indices: Tensor;
  transfer: Tensor;
  batch: number;
  heads: number;
  multi_head: boolean;
  beta?: number;
  metric?: 'kl_div' | 'mse';
  logit_scale?: number;
}): GoldenOutputs {
  const { main, indices, transfer, batch, multi_head, beta, metric, logit_scale: logitScale } = inputs;
  const options = { heads: multi_head ? inputs.heads : 1, beta, metric, logitScale };
  const dim = transfer.shape[1] as number;
  return tidy(() => {
    const rows = cast(indices, 'int32');
    const loss = (...all: Tensor[]): Tensor => {
      const teacher = gather(reshape(all[0], [-1, dim]), reshape(rows, [-1]) as Tensor & { dtype: 'int32' });
      const student = reshape(all[1], [batch, -1, dim]);
      const value = positionTransferLoss(reshape(teacher, [batch, -1, dim]), student, options);
      // A detached teacher is out of reach of `grads`, which wants a path.
      return add(value, mul(sum(all[0]), 0));
    };
    const [gradMain, gradTransfer] = grads(loss)([main, transfer]);
    return { loss: scalar1(loss(main, transfer)), 'grad.main': gradMain, 'grad.transfer': gradTransfer };
  });
}

/** A whole attention layer; every example has its own positions. */
function attention(inputs: GoldenInputs): GoldenOutputs {
  const { x, pe, loss_weight: weight } = inputs as Record<string, Tensor>;
  const { heads, mode, pe_multi_head, scalar_scale } = inputs as {
    heads: number;
    mode: PositionInjectionOptions['mode'];
    pe_multi_head?: boolean;
    scalar_scale?: number;
  };
  const [dim, peDim] = [x.shape.at(-1) as number, pe.shape.at(-1) as number];
  const rng = new Rng(0);
  const bias = (name: string): boolean => `param.${name}.bias` in inputs;
  const injection = new PositionInjection({
    mode,
    peDim,
    heads,
    headDim: dim / heads,
    perHead: pe_multi_head,
    scalarScale: scalar_scale,
    projectionBias: bias('pe_qk'),
    rng,
  });
  const qkv = new Linear(dim, 3 * dim, { bias: bias('qkv'), rng });
  const proj = new Linear(dim, dim, { bias: bias('proj'), rng });
  load(injection, inputs);
  const layers = { qkv, proj };
  for (const [prefix, layer] of Object.entries(layers)) {
    for (const [name, parameter] of layer.namedParameters(prefix)) {
      parameter.assign((inputs[`param.${name}`] as Tensor).clone());
    }
  }
  const run = (x: Tensor, pe: Tensor): Tensor => {
    const [q, k, v] = split(qkv.apply(x), 3, 2).map((part) => splitHeads(part, heads));
    const [pq, pk] = injection.apply(pe);
    const [qs, ks] = injection.modulate(q, k, pq, pk);
    const mask = mode === 'attn_scalar' ? injection.bias(pq, pk) : undefined;
    return proj.apply(mergeHeads(attend(qs, ks, v, { mask })));
  };
  const parameters = new Map([
    ...injection.namedParameters(),
    ...qkv.namedParameters('qkv'),
    ...proj.namedParameters('proj'),
  ]);
  const lossOf = (...all: Tensor[]): Scalar => sum(mul(run(all[0], all[1]), weight)) as Scalar;
  const out = tidy(() => run(x, pe));
  const [gradX, gradPe] = grads(lossOf)([x, pe]);
  const { loss, grads: gradients } = lossAndGrads(() => lossOf(x, pe), parameters);
  for (const layer of [injection, qkv, proj]) layer.dispose();
  return { out, loss: scalar1Of(loss), 'grad.x': gradX, 'grad.pe': gradPe, ...named(gradients) };
}

export const seqpeGolden = defineGolden({
  'seqpe/digits': digits,
  'seqpe/encoder_1d_causal': encoder,
  'seqpe/encoder_2d_bidirectional_padmask': encoder,
  'seqpe/contrastive': contrastive,
  'seqpe/transfer_kl': transfer,
  'seqpe/attention': attention,
});
