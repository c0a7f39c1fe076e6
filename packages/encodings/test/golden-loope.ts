import { BatchNorm } from '@ashlar/nn';
import {
  lossAndGrads,
  mul,
  Rng,
  replaceModule,
  reshape,
  sum,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import { gilbertOrder, Loope, rasterOrder, sinusoidalTable, structuralIntegrity } from '../src/index.ts';

interface BiasCase extends GoldenInputs {
  image: Tensor;
  patch: number;
  grid: [number, number];
  channels: number[];
  activation: 'gelu' | 'relu';
  batch_norm_training?: boolean;
  batch_norm_eps?: number;
  dim: number;
  base?: number;
  loss_weight: Tensor;
}

/** The names in the files, of parameters by their paths here. */
function nameOf(path: string): string {
  const conv = /^context\.convs\.(\d+)\.(\w+)$/.exec(path);
  if (conv) return `conv${Number(conv[1]) + 1}_${conv[2]}`;
  return path.replace('context.norm.', 'bn_').replace('context.mlp.', 'mlp_');
}

async function integrity(embedding: Tensor, buckets: number): Promise<[number, number, number]> {
  const { undirectedMonotonicity, directedMonotonicity, undirectedAsymmetry } = await structuralIntegrity(embedding, {
    buckets,
  });
  return [undirectedMonotonicity, directedMonotonicity, undirectedAsymmetry];
}

export const loopeGolden = defineGolden({
  'loope/gilbert_order': ({ sizes }: { sizes: [number, number][] }) =>
    Object.fromEntries(sizes.map((size) => [`order_${size.join('x')}`, tensor2d(gilbertOrder(...size), size)])),

  'loope/context_bias': (inputs: BiasCase) => {
    const { image, patch, grid, channels, activation, dim, base, loss_weight, batch_norm_eps: eps } = inputs;
    const loope = new Loope({ grid, dim, patchSize: patch, channels, activation, base, rng: new Rng(0) });
    replaceModule(loope, 'context.norm', () => new BatchNorm(1, { eps }));
    for (const [path, parameter] of loope.namedParameters()) {
      parameter.assign((inputs[nameOf(path)] as Tensor).clone());
    }
    for (const [path, buffer] of loope.namedBuffers()) {
      const given = inputs[path.replace('context.norm.', '')] as Tensor | undefined;
      if (given !== undefined) buffer.assign(given.clone());
    }
    loope.train(inputs.batch_norm_training === true);
    const { loss, grads } = lossAndGrads(() => sum(mul(loope.apply(image), loss_weight)), loope.trainableParameters());
    const outputs: GoldenOutputs = {
      context_bias: tidy(() => loope.context?.apply(image) as Tensor),
      positions: loope.positions(image),
      embedding: loope.apply(image),
      loss: tidy(() => reshape(loss, [1])),
      ...Object.fromEntries([...grads].map(([path, gradient]) => [`grad.${nameOf(path)}`, gradient])),
    };
    loss.dispose();
    loope.dispose();
    return outputs;
  },

  'loope/pesi_14x14': async (inputs: { grid: [number, number]; dim: number; base: number; buckets: number[] }) => {
    const { grid, dim, base, buckets } = inputs;
    const outputs: Record<string, number> = {};
    for (const [name, order] of Object.entries({ zigzag: rasterOrder(...grid), gilbert: gilbertOrder(...grid) })) {
      const embedding = tidy(() =>
        reshape(sinusoidalTable(tensor1d(Float32Array.from(order)), dim, { base }), [...grid, dim]),
      );
      for (const count of buckets) {
        const [undirected, directed, asymmetry] = await integrity(embedding, count);
        outputs[`${name}_M_D_${count}`] = directed;
        outputs[`${name}_M_U`] = undirected;
        outputs[`${name}_A_SU`] = asymmetry;
      }
      embedding.dispose();
    }
    return outputs;
  },

  'loope/pesi_arbitrary_embedding': async ({ embedding, buckets }: { embedding: Tensor; buckets: number }) => {
    const [M_U, M_D, A_SU] = await integrity(embedding, buckets);
    return { M_U, M_D, A_SU };
  },
});
