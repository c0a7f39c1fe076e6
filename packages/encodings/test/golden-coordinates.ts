import { attend } from '@ashlar/nn';
import {
  add,
  clipByValue,
  concat,
  grad,
  grads,
  matMul,
  mean,
  mul,
  relu,
  reshape,
  softplus,
  sub,
  sum,
  type Tensor,
  tensor1d,
  tidy,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import {
  harmonicEmbedding,
  quantizeCoordinates,
  Rope,
  readTriplane,
  type Triplane,
  type VisualScheme,
  visualPositions,
} from '../src/index.ts';

interface QuantizeCase extends GoldenInputs {
  points: Tensor;
  lo: number;
  hi: number;
  resolution: number;
}

interface VisualCase extends GoldenInputs {
  text_before: number;
  grids: [number, number][];
  text_after: number;
}

const SCHEMES: readonly VisualScheme[] = ['original', 'share_all', 'share_by_row', 'share_by_row_col'];

const placesOf = ({ text_before, grids, text_after }: VisualCase, scheme: VisualScheme) =>
  visualPositions({
    textBefore: text_before,
    grids: grids.map(([rows, columns]) => ({ rows, columns })),
    textAfter: text_after,
    scheme,
  });

const bounds = ({ lo: min, hi: max, resolution }: QuantizeCase) => ({ min, max, resolution });

type Planes = Record<keyof Triplane, Tensor[]>;
const PLANES = ['xy', 'yz', 'xz'] as const;

/** DDMI's decoder of occupancy on its triplane reads, `[batch, points]`. */
function occupancy(params: Record<string, Tensor>, points: Tensor, planes: Planes): Tensor {
  const linear = (x: Tensor, name: string): Tensor => {
    const weight = params[`${name}.weight`];
    const out = reshape(matMul(reshape(x, [-1, weight.shape[1] as number]), weight, false, true), [
      ...x.shape.slice(0, -1),
      weight.shape[0],
    ]);
    const bias = params[`${name}.bias`];
    return bias === undefined ? out : add(out, bias);
  };
  const block = (x: Tensor, name: string): Tensor => {
    const shortcut = params[`${name}.shortcut.weight`] === undefined ? x : linear(x, `${name}.shortcut`);
    return add(shortcut, linear(relu(linear(relu(x), `${name}.fc_0`)), `${name}.fc_1`));
  };
  const inside = clipByValue(add(mul(points, 1 / (1 + 0.1 + 1e-5)), 0.5), 0, 1 - 1e-5);
  const place = sub(mul(inside, 2), 1);
  const [coarse, middle, fine] = [0, 1, 2].map((level) =>
    readTriplane({ xy: planes.xy[level], yz: planes.yz[level], xz: planes.xz[level] }, place, { alignCorners: true }),
  );
  let h = add(linear(points, 'net_p'), block(coarse, 'net_res1'));
  h = block(concat([h, middle], 2), 'net_res2');
  h = block(concat([h, fine], 2), 'net_res3');
  return reshape(linear(block(h, 'net_res4'), 'net_out'), points.shape.slice(0, 2));
}

export const coordinatesGolden = defineGolden({
  'cq-nir/quantize': (inputs: QuantizeCase) => ({ ...quantizeCoordinates(inputs.points, bounds(inputs)) }),

  'cq-nir/quantize_generic_2d_edges': (inputs: QuantizeCase) => {
    const clamped = quantizeCoordinates(inputs.points, { ...bounds(inputs), clamp: true });
    return {
      ...quantizeCoordinates(inputs.points, bounds(inputs)),
      cell_clamped: clamped.cell,
      quantized_clamped: clamped.quantized,
    };
  },

  'cq-nir/positional_encoding_6': ({ x, num_freqs, w }: { x: Tensor; num_freqs: number; w: Tensor }) => ({
    e: harmonicEmbedding(x, num_freqs),
    dx: grad((x) => sum(mul(harmonicEmbedding(x, num_freqs), w)))(x),
  }),

  'mousi/position_ids': (inputs: VisualCase) => {
    const outputs: Record<string, GoldenOutputs[string]> = {};
    for (const scheme of SCHEMES) {
      const { ids, used, usedByVision, columnIndex } = placesOf(inputs, scheme);
      outputs[`${scheme}_ids`] = Array.from(ids);
      outputs[`${scheme}_positions_used`] = used;
      outputs[`${scheme}_visual_positions`] = usedByVision;
      outputs.column_index = Array.from(columnIndex);
    }
    return outputs;
  },

  'mousi/attention_shared_positions': (inputs: VisualCase & { q: Tensor; k: Tensor; v: Tensor; base: number }) => {
    const { q, k, v, base } = inputs;
    const encoding = new Rope({ headDim: q.shape[3] as number, base });
    return Object.fromEntries(
      SCHEMES.slice(0, 3).map((scheme) => [
        scheme,
        tidy(() => {
          const positions = tensor1d(placesOf(inputs, scheme).ids, 'int32');
          return attend(q, k, v, { encoding, qPositions: positions, kPositions: positions, causal: true });
        }),
      ]),
    );
  },

  'ddmi/occupancy_decoder': (inputs: {
    points: Tensor;
    planes: Planes;
    targets: Tensor;
    params: Record<string, Tensor>;
  }) => {
    const { points, planes, targets, params } = inputs;
    const logitsOf = (fields: readonly Tensor[]): Tensor => {
      const levels = fields.length / 3;
      const own = Object.fromEntries(PLANES.map((name, i) => [name, fields.slice(i * levels, (i + 1) * levels)]));
      return occupancy(params, points, own as unknown as Planes);
    };
    const lossOf = (logits: Tensor): Tensor => mean(sum(sub(softplus(logits), mul(logits, targets)), 1));
    const fields = PLANES.flatMap((name) => planes[name]);
    const gradients = grads((...all: Tensor[]) => tidy(() => lossOf(logitsOf(all))))(fields);
    const levels = fields.length / 3;
    return {
      logits: tidy(() => logitsOf(fields)),
      loss: tidy(() => lossOf(logitsOf(fields))),
      dplanes: Object.fromEntries(PLANES.map((name, i) => [name, gradients.slice(i * levels, (i + 1) * levels)])),
    };
  },
});
