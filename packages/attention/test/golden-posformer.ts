import { Sinusoidal } from '@ashlar/encodings';
import { Linear } from '@ashlar/nn';
import {
  type AnyModule,
  cast,
  grads,
  loadStateDict,
  lossAndGrads,
  mul,
  Rng,
  replaceModule,
  reshape,
  sum,
  type Tensor,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import { AttentionRefinement, keepSteps, PositionDecoder, posformerLoss, SymbolDecoder } from '../src/index.ts';

type Tensors = Record<string, Tensor>;

/** Of the official vocabulary: `^`, `_` and `{`. */
const STRUCTURAL = [82, 83, 110];

const integers = (x: Tensor): Tensor => cast(x, 'int32');

interface RefinementCase extends GoldenInputs {
  prev_attn: Tensor;
  curr_attn: Tensor;
  key_padding_mask?: Tensor;
  height: number;
  tokens?: Tensor;
  keep_step?: Tensor;
  nhead: number;
  params: Tensors;
  running_mean: Tensor;
  running_var: Tensor;
  w: Tensor;
}

/** Gradients are those of `sum(w out)`. Which steps count follows from the tokens, unless the file says it. */
function refinement(inputs: RefinementCase, training: boolean): GoldenOutputs {
  const {
    height,
    nhead: heads,
    params,
    running_mean,
    running_var,
    key_padding_mask: padding,
    tokens,
    keep_step,
    w,
  } = inputs;
  const names = Object.keys(params);
  const refine = new AttentionRefinement({ heads, channels: params['conv.bias'].shape[0], rng: new Rng(0) });
  refine.train(training);
  loadStateDict(
    refine,
    new Map([
      ...Object.entries(params),
      ['post_norm.bn.running_mean', running_mean],
      ['post_norm.bn.running_var', running_var],
    ]),
  );
  const [rows, steps, cells] = inputs.curr_attn.shape;
  const byHead = (x: Tensor): Tensor => reshape(x, [rows / heads, heads, steps, cells]);
  const out = (previous: Tensor, current: Tensor): Tensor =>
    tidy(() => {
      const keep = keep_step ?? (tokens && keepSteps(integers(tokens), STRUCTURAL));
      return reshape(refine.apply(byHead(previous), byHead(current), { height, padding, keep }), [rows, steps, cells]);
    });
  const attentions = [inputs.prev_attn, inputs.curr_attn];
  const parameters = new Map(refine.namedParameters());
  const { grads: dparams, loss } = lossAndGrads(() => sum(mul(out(attentions[0], attentions[1]), w)), parameters);
  const [dprev, dcurr] = grads((a, b) => sum(mul(out(a, b), w)))(attentions);
  const outputs = {
    out: out(attentions[0], attentions[1]),
    dprev,
    dcurr,
    dparams: Object.fromEntries(names.map((name) => [name, dparams.get(name)])),
  };
  loss.dispose();
  refine.dispose();
  return outputs;
}

interface DecoderCase extends GoldenInputs {
  src: Tensor;
  src_mask?: Tensor;
  tgt: Tensor;
  nhead: number;
  num_layers: number;
  params: Tensors;
  buffers: Tensors;
}

/** What a decoder is made with, its width and depth read off the parameters. */
function decoderOptions({ src, nhead: heads, num_layers: layers, params }: DecoderCase) {
  const dim = src.shape[3] as number;
  return {
    dim,
    heads,
    layers,
    hidden: params['model.layers.0.linear1.bias'].shape[0],
    channels: params['model.arm.conv.bias']?.shape[0],
    encoding: new Sinusoidal({ dim, layout: 'interleaved' }),
    rng: new Rng(0),
  };
}

const load = <T extends AnyModule>(model: T, { params, buffers }: DecoderCase): T => {
  loadStateDict(model, new Map([...Object.entries(params), ...Object.entries(buffers)]));
  return model.eval() as T;
};

const rows = (attention: Tensor): Tensor =>
  tidy(() => reshape(attention, [-1, attention.shape[2] as number, attention.shape[3] as number]));

export const posformerGolden = defineGolden({
  'posformer/attention_refinement': (inputs: RefinementCase, _, about) =>
    refinement(inputs, !/inference mode/i.test(about.description ?? about.case) && !/eval/i.test(about.case)),

  /** Only the rows of `embedding_ids` and `output_ids` are in the file: tokens are renumbered by the former. */
  'posformer/symbol_decoder_forward': (inputs: DecoderCase & { embedding_ids: number[] }) => {
    const { embedding_ids: ids, params, src, src_mask, tgt } = inputs;
    const place = (id: number): number => ids.indexOf(id);
    const options = decoderOptions(inputs);
    const structuralTokens = STRUCTURAL.map(place);
    const model = new SymbolDecoder({ ...options, vocabSize: ids.length, structuralTokens, pad: place(0) });
    replaceModule(model, 'proj', () => new Linear(options.dim, params['proj.bias'].shape[0], options));
    load(model, inputs);
    const outputs = tidy(() => {
      const tokens = tensor2d(Array.from(tgt.dataSync(), place), tgt.shape as [number, number], 'int32');
      const { logits, attention } = model.apply(tokens, { features: src, padding: src_mask });
      return { logits, last_attention: rows(attention) };
    });
    model.dispose();
    return outputs;
  },

  'posformer/position_decoder_forward': (inputs: DecoderCase & { identifier_matrix: Tensor }) => {
    const { identifier_matrix: identifiers, params, src, src_mask, tgt } = inputs;
    const options = {
      ...decoderOptions(inputs),
      maxDepth: identifiers.shape[2] as number,
      headHidden: params['pos_proj.0.bias'].shape[0],
      structuralTokens: STRUCTURAL,
    };
    const model = load(new PositionDecoder(options), inputs);
    const outputs = tidy(() => {
      const { levels, positions, attention } = model.apply(identifiers, integers(tgt), {
        features: src,
        padding: src_mask,
      });
      return { level_logits: levels, position_logits: positions, last_attention: rows(attention) };
    });
    model.dispose();
    return outputs;
  },

  'posformer/joint_loss': (inputs: {
    token_logits: Tensor;
    level_logits: Tensor;
    position_logits: Tensor;
    token_target: Tensor;
    level_target: Tensor;
    position_target: Tensor;
    pad_id: number;
  }) =>
    tidy(() => {
      const targets = {
        tokens: integers(inputs.token_target),
        levels: integers(inputs.level_target),
        positions: integers(inputs.position_target),
      };
      const loss = (tokens: Tensor, levels: Tensor, positions: Tensor) =>
        posformerLoss({ tokens, levels, positions }, targets, { pad: inputs.pad_id });
      const logits = [inputs.token_logits, inputs.level_logits, inputs.position_logits];
      const { tokens, levels, positions, total } = loss(logits[0], logits[1], logits[2]);
      const [dtoken, dlevel, dposition] = grads((a, b, c) => loss(a, b, c).total)(logits);
      return { token_loss: tokens, level_loss: levels, position_loss: positions, total, dtoken, dlevel, dposition };
    }),
});
