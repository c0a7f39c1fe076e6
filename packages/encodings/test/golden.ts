import { attend } from '@ashlar/nn';
import {
  add,
  broadcastTo,
  cast,
  concat,
  cumsum,
  eye,
  grads,
  matMul,
  mul,
  ones,
  type PositionEncoding,
  Rng,
  range,
  reshape,
  slice,
  sub,
  sum,
  type Tensor,
  type Tensor2D,
  type Tensor4D,
  tensor1d,
  tensor2d,
  tidy,
  transpose,
  zeros,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import {
  Alibi,
  alibiSlopes,
  Nope,
  Rope,
  type RopeScaling,
  ropeFrequencies,
  Sinusoidal,
  Sinusoidal2d,
  sinusoidalTable,
  T5RelativeBias,
  t5Bucket,
} from '../src/index.ts';
import { correctionRange } from '../src/rope-scaling.ts';
import { attentionDistanceGolden } from './golden-attention-distance.ts';
import { clexGolden } from './golden-clex.ts';
import { coordinatesGolden } from './golden-coordinates.ts';
import { dpeGolden } from './golden-dpe.ts';
import { lightnetGolden } from './golden-lightnet.ts';
import { loopeGolden } from './golden-loope.ts';
import { posformerGolden } from './golden-posformer.ts';
import { seqpeGolden } from './golden-seqpe.ts';

/** The name of its table in a state dict, and so in the golden files. */
const BIAS_TABLE = 'relative_attention_bias.weight';

const scalar1 = (x: Tensor): Tensor => reshape(x, [1]);

/** The encoding that an attention case names. */
function encodingOf(inputs: GoldenInputs): PositionEncoding {
  const { encoding, heads, base } = inputs as Record<string, number> & { encoding: string };
  const [width, dim] = (inputs['param.q.weight'] as Tensor).shape as [number, number];
  const headDim = width / heads;
  const { rotary_dim = headDim / 4 } = inputs as { rotary_dim?: number };
  switch (encoding) {
    case 'none':
      return new Nope();
    case 'abs_sinusoid':
      return new Sinusoidal({ dim, base });
    case 'alibi':
      return new Alibi({ heads });
    case 'rotary':
      return new Rope({ headDim, base, layout: 'interleaved', fraction: rotary_dim / headDim });
    case 't5_relative_bias': {
      const table = inputs[`param.${BIAS_TABLE}`] as Tensor;
      const t5 = new T5RelativeBias({
        heads,
        buckets: inputs.num_buckets as number,
        maxDistance: inputs.max_distance as number,
        rng: new Rng(0),
      });
      t5.relative_attention_bias.weight.assign(cast(table, 'float32'));
      return t5;
    }
    default:
      throw new Error(`unknown encoding '${encoding}'`);
  }
}

/** One causal attention layer, no scaling and no biases: output and attention for `x` `[batch, seq, dModel]`. */
function layer(
  encoding: PositionEncoding,
  heads: number,
  tokens: Tensor,
  [wq, wk, wv, wo]: Tensor[],
): { out: Tensor; attention: Tensor } {
  const [batch, seq] = tokens.shape;
  const positions = range(0, seq, 1, 'int32');
  const embedded = encoding.embed?.(positions);
  const x = embedded === undefined ? tokens : add(tokens, embedded);
  const project = (w: Tensor): Tensor =>
    transpose(reshape(matMul(x, w, false, true), [batch, seq, heads, w.shape[0] / heads]), [0, 2, 1, 3]);
  const [q, k, v] = [wq, wk, wv].map(project);
  const options = { encoding, qPositions: positions, kPositions: positions, causal: true, scale: 1 };
  const mixed = reshape(transpose(attend(q, k, v, options), [0, 2, 1, 3]), [batch, seq, -1]);
  // Attention to unit vectors shows the attention itself.
  const units = broadcastTo(eye(seq), [batch, heads, seq, seq]);
  return { out: matMul(mixed, wo, false, true), attention: attend(q, k, units, options) };
}

function attention(inputs: GoldenInputs): GoldenOutputs {
  const { heads, x, loss_weight: weight } = inputs as { heads: number; x: Tensor; loss_weight: Tensor };
  const names = ['q.weight', 'k.weight', 'v.weight', 'o.weight'];
  const projections = names.map((name) => inputs[`param.${name}`] as Tensor);
  const encoding = encodingOf(inputs);
  const table = encoding instanceof T5RelativeBias ? [encoding.relative_attention_bias.weight.stored] : [];
  const outputs = tidy(() => {
    const loss = (x: Tensor, ...weights: Tensor[]): Tensor => sum(mul(layer(encoding, heads, x, weights).out, weight));
    const gradients = grads(loss)([x, ...projections, ...table]);
    const named = ['x', ...names, BIAS_TABLE].slice(0, gradients.length);
    return {
      ...layer(encoding, heads, x, projections),
      loss: scalar1(loss(x, ...projections)),
      ...Object.fromEntries(named.map((name, i) => [`grad.${name}`, gradients[i]])),
    };
  });
  if (encoding instanceof T5RelativeBias) encoding.dispose();
  return outputs;
}

/** `[batch, seq, heads, channels]`, all channels rotated. */
function rotaryInterleaved({ x, offset = 0, base }: { x: Tensor4D; offset?: number; base?: number }): GoldenOutputs {
  const rope = new Rope({ headDim: x.shape[3], layout: 'interleaved', base });
  return {
    out: tidy(() => {
      const positions = range(offset, offset + x.shape[1], 1, 'int32');
      return transpose(rope.apply(transpose(x, [0, 2, 1, 3]), positions), [0, 2, 1, 3]);
    }),
  };
}

/** With padding the keys' positions are their running index among the unmasked ones; masked ones stay at 0. */
function alibi({ attention_mask: mask, heads }: { attention_mask: Tensor2D; heads: number }): GoldenOutputs {
  const encoding = new Alibi({ heads });
  const bias = tidy(() => {
    const positions = mul(sub(cumsum(mask, 1), 1), mask);
    const rows = Array.from({ length: mask.shape[0] }, (_, i) => reshape(slice(positions, [i, 0], [1, -1]), [-1]));
    return concat(
      rows.map((row) => reshape(encoding.bias(zeros([1]), row), [1, heads, 1, mask.shape[1]])),
      0,
    );
  });
  return { slopes: tensor1d(alibiSlopes(heads)), bias };
}

function t5Buckets(inputs: {
  relative: Tensor;
  num_buckets: number;
  max_distance: number;
  bidirectional?: boolean;
}): GoldenOutputs {
  const { relative, num_buckets: buckets, max_distance: maxDistance, bidirectional } = inputs;
  const data = Array.from(relative.dataSync(), (distance) =>
    t5Bucket(distance, { buckets, maxDistance, bidirectional }),
  );
  return { bucket: { shape: relative.shape, data } };
}

function ropeScalingTables(inputs: {
  dim: number;
  base: number;
  original_length: number;
  scale: number;
  alpha: number;
  sequence_length: number;
}): GoldenOutputs {
  const { dim, base, original_length: maxPositions, scale, alpha, sequence_length: length } = inputs;
  const of = (rope_type: string, factor = scale): number[] =>
    Array.from(ropeFrequencies({ dim, base, maxPositions, length, scaling: { rope_type, factor } }).inverseFrequencies);
  const temperature = (rope_type: string): number =>
    ropeFrequencies({ dim, base, maxPositions, length, scaling: { rope_type, factor: scale } }).attentionFactor;
  const row = (values: number[]): GoldenOutputs => ({ shape: [values.length], data: values });
  /** Cosines at a position, once for each half: what the ones and zeros of a unit vector turn into. */
  const cosines = (scaling: RopeScaling, position: number): Tensor =>
    tidy(() => {
      const rope = new Rope({ headDim: dim, base, maxPositions, scaling });
      const first = concat([ones([1, 1, 1, dim / 2]), zeros([1, 1, 1, dim / 2])], 3);
      const turned = reshape(rope.apply(first, tensor1d([position], 'int32')), [dim]);
      const half = slice(turned, [0], [dim / 2]);
      return concat([half, half]);
    });
  return {
    plain: row(of('default')),
    position_interpolation: row(of('linear')),
    position_interpolation_cos_row5: cosines({ rope_type: 'linear', factor: scale }, 5),
    ntk_aware: row(of('ntk', alpha)),
    dynamic_ntk_factor1: row(of('dynamic', 1)),
    dynamic_ntk_factor_scale: row(of('dynamic')),
    yarn: row(of('yarn')),
    yarn_attention_factor: temperature('yarn'),
    yarn_ramp_low_high: correctionRange(32, 1, dim, base, maxPositions),
    yarn_cos_row7: cosines({ rope_type: 'yarn', factor: scale }, 7),
    dynamic_yarn: row(of('dynamic_yarn')),
    dynamic_yarn_attention_factor: temperature('dynamic_yarn'),
    ntk_by_parts_legacy: row(of('ntk_by_parts')),
  };
}

/** Positions in any shape, such as a row of them for each image. */
function fractionalSinusoid(inputs: {
  positions: Tensor;
  dim: number;
  base?: number;
  loss_weight: Tensor;
}): GoldenOutputs {
  const { positions, dim, base, loss_weight } = inputs;
  return tidy(() => {
    const table = (positions: Tensor): Tensor =>
      reshape(sinusoidalTable(reshape(positions, [-1]), dim, { base }), [...positions.shape, dim]);
    const loss = (positions: Tensor): Tensor => sum(mul(table(positions), loss_weight));
    return {
      embedding: table(positions),
      loss: scalar1(loss(positions)),
      'grad.positions': grads(loss)([positions])[0],
    };
  });
}

/** Row 0 is the class token's, which has no position. */
function sincos2d({ width, grid }: { width: number; grid: number }): GoldenOutputs {
  const patches = Array.from({ length: grid * grid }, (_, i) => [Math.floor(i / grid), i % grid]);
  const table = tidy(() =>
    concat(
      [zeros([1, width]), new Sinusoidal2d({ dim: width }).embed(tensor2d(patches, [grid * grid, 2], 'int32'))],
      0,
    ),
  );
  return { table };
}

export default defineGolden({
  ...attentionDistanceGolden,
  ...clexGolden,
  ...coordinatesGolden,
  ...dpeGolden,
  ...loopeGolden,
  ...lightnetGolden,
  ...posformerGolden,
  ...seqpeGolden,

  'length-generalization/attention': attention,
  'length-generalization/attention_rotary': attention,
  'length-generalization/attention_t5_relative_bias': attention,
  'length-generalization/rotary_interleaved': rotaryInterleaved,
  'length-generalization/alibi_bias_6_heads': alibi,
  'length-generalization/t5_relative_buckets': t5Buckets,
  'length-generalization/sinusoidal_absolute': (inputs: { positions: Tensor; dim: number; base?: number }) => ({
    embedding: sinusoidalTable(inputs.positions, inputs.dim, { base: inputs.base }),
  }),
  'dpe/rope_scaling_tables': ropeScalingTables,
  'loope/fractional_sinusoid': fractionalSinusoid,
  'droppos/sincos_2d': sincos2d,
});
