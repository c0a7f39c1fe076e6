import { attend } from '@ashlar/nn';
import {
  type EncodingContext,
  grads,
  mul,
  type PositionEncoding,
  reshape,
  sum,
  type Tensor,
  tensor2d,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import {
  Dpe,
  DualChunk,
  farKeyPlace,
  farQueryPlace,
  keyDimensionScores,
  ReRope,
  type RotaryLayout,
  SelfExtend,
  selectKeyDimensions,
} from '../src/index.ts';
import type { Region } from '../src/regional-rope.ts';

interface DpeCase extends GoldenInputs {
  base: number;
  scale_factors: number[];
  window: number;
  dimension_groups: number[];
  rope_pairing?: string;
  k: Tensor;
  v: Tensor;
  scores?: Tensor;
  top_k?: number;
}

const causal = (q: Tensor, k: Tensor, v: Tensor, encoding: PositionEncoding): Tensor =>
  attend(q, k, v, { encoding, causal: true });

const selectedBy = async (scores: Tensor, topK: number): Promise<{ selected: Tensor; pairs: boolean[][] }> => {
  const pairs = await selectKeyDimensions(scores, topK);
  return { selected: tensor2d(pairs.map((own) => own.map(Number))), pairs };
};

/** The authors' decode step: it floors `w / s_d`, which is the full pass's where `s_d` divides `w`. */
class StepwiseDpe extends Dpe {
  protected override regions(context: EncodingContext, heads: number): Region[] {
    const [near, far] = super.regions(context, heads);
    return [near, { ...far, query: (...place) => Math.ceil(far.query(...place)) }];
  }
}

/** The encoding, and the pairs that it scales if the case has scores. */
async function dpeOf(inputs: DpeCase, Encoding = Dpe): Promise<{ encoding: Dpe; selected?: Tensor }> {
  const { base, scale_factors: scales, window, dimension_groups: groups, rope_pairing = 'half' } = inputs;
  const { scores, top_k } = inputs;
  const layout: RotaryLayout = rope_pairing.startsWith('half') ? 'half' : 'interleaved';
  const options = { headDim: inputs.k.shape[3] as number, base, layout, window, scales, groups };
  if (scores === undefined) return { encoding: new Encoding(options) };
  const { selected, pairs } = await selectedBy(scores, top_k as number);
  return { encoding: new Encoding({ ...options, keyDimensions: [pairs] }), selected };
}

type AttentionCase = DpeCase & { q: Tensor; loss_weight: Tensor };

/** Output, gradients of `sum(out * weight)`, and the distances that each scale leads to. */
async function attention(inputs: AttentionCase): Promise<GoldenOutputs> {
  const { q, k, v, loss_weight, window, scale_factors } = inputs;
  const { encoding, selected } = await dpeOf(inputs);
  const loss = (...all: Tensor[]): Tensor =>
    tidy(() => sum(mul(causal(all[0], all[1], all[2], encoding), loss_weight)));
  const [gradQ, gradK, gradV] = grads(loss)([q, k, v]);
  const length = q.shape[2] as number;
  const places = [...Array(length).keys()];
  const distances = [...new Set(scale_factors)].map((scale): [string, Tensor] => [
    `relative_position_scale_${scale}`,
    tensor2d(
      places.map((i) =>
        places.map((j) => {
          if (j > i) return 0;
          return i - j < window ? i - j : farQueryPlace(i, scale, window) - farKeyPlace(j, scale);
        }),
      ),
    ),
  ]);
  return {
    selected,
    out: causal(q, k, v, encoding),
    loss: tidy(() => reshape(loss(q, k, v), [1])),
    'grad.q': gradQ,
    'grad.k': gradK,
    'grad.v': gradV,
    ...Object.fromEntries(distances),
  };
}

export const dpeGolden = defineGolden({
  'dpe/attention': attention,
  'dpe/attention_top_k': attention,

  'dpe/attention_decode': async (inputs: DpeCase & { q_last: Tensor }) => {
    const { encoding, selected } = await dpeOf(inputs, StepwiseDpe);
    return { selected, out: causal(inputs.q_last, inputs.k, inputs.v, encoding) };
  },

  'dpe/key_dimension_scores': async ({ q, k, top_k }: { q: Tensor; k: Tensor; top_k: number }) => {
    const byHead = (x: Tensor): Tensor => transpose(reshape(x, [-1, ...x.shape.slice(-3)]), [0, 2, 1, 3]);
    const scores = tidy(() => keyDimensionScores(byHead(q), byHead(k)));
    return { scores, selected: (await selectedBy(scores, top_k)).selected };
  },

  'dpe/training_free_baselines': (inputs: {
    q: Tensor;
    k: Tensor;
    v: Tensor;
    base: number;
    group: number;
    neighbor_window: number;
    rerope_window: number;
    training_length: number;
    chunk_size: number;
    local_window: number;
  }) => {
    const { q, k, v, base, group, neighbor_window, rerope_window: window, training_length: trainedLength } = inputs;
    const common = { headDim: q.shape[3] as number, base };
    const run = (encoding: PositionEncoding): Tensor => causal(q, k, v, encoding);
    return {
      self_extend: run(new SelfExtend({ ...common, group, window: neighbor_window })),
      rerope: run(new ReRope({ ...common, window, trainedLength })),
      leaky_rerope: run(new ReRope({ ...common, window, group, trainedLength })),
      dual_chunk: run(new DualChunk({ ...common, chunkSize: inputs.chunk_size, localWindow: inputs.local_window })),
    };
  },
});
