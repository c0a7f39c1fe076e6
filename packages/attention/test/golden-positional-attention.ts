import { adam, Optimizer } from '@ashlar/optim';
import {
  disposeMap,
  loadStateDict,
  lossAndGrads,
  mean,
  Rng,
  reshape,
  slice,
  square,
  sub,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import {
  defineGolden,
  type GoldenInputs,
  type GoldenOutputs,
  Undetermined,
} from '../../../tooling/golden/src/define-golden.ts';
import { PositionalTransformer } from '../src/index.ts';

interface Case extends GoldenInputs {
  x: Tensor;
  positions: Tensor;
  target: Tensor;
  n: number;
  embed_dim: number;
  heads: number;
  layers: number;
  mlp_hidden: number;
}

/** What the files tell of a step of Adam. */
const STEPPED = /^(decoding|transformer_layers\.0\.attn\.qk_proj)\./;
const LEARNING_RATE = 5e-4;

/** Smaller gradients than this are rounding. */
const ROUNDING = 1e-7;

/**
 * A parameter after the step. Adam divides a gradient by its size, so where it is 0 but for rounding, as that of the keys'
 * biases is, which the softmax does not see, the step is anything up to the learning rate.
 */
async function stepped(parameter: Tensor, gradient: Tensor): Promise<Undetermined> {
  const by = Array.from(await gradient.data(), (g) => (Math.abs(g) < ROUNDING ? LEARNING_RATE : 0));
  return new Undetermined(parameter, by, 'their gradient is 0 but for rounding, which Adam scales up');
}

/** Output, mean squared error over the first `n` nodes and its gradients; on request some parameters after a step of Adam. */
async function network(
  inputs: Case,
  options: { positional?: boolean; adamStep?: boolean } = {},
): Promise<GoldenOutputs> {
  const { x, positions, target, n } = inputs;
  const weights = new Map(
    Object.entries(inputs).flatMap(([name, value]) =>
      name.startsWith('param.') ? [[name.slice('param.'.length), value as Tensor] as const] : [],
    ),
  );
  const model = new PositionalTransformer({
    inputDim: x.shape[2] as number,
    embedDim: inputs.embed_dim,
    outputDim: target.shape[2] as number,
    numHeads: inputs.heads,
    numLayers: inputs.layers,
    mlpHidden: inputs.mlp_hidden,
    mlpLayers: [...weights.keys()].filter((name) => /layers\.0\.mlp\..*weight$/.test(name)).length,
    positionDim: positions.shape[1] as number,
    positional: options.positional,
    rng: new Rng(0),
  });
  loadStateDict(model, weights);
  const parameters = model.trainableParameters();
  const out = model.apply(x, positions);
  const { loss, grads } = lossAndGrads(() => {
    const nodes = slice(model.apply(x, positions), [0, 0, 0], [-1, n, -1]);
    return mean(square(sub(nodes, target)));
  }, parameters);
  const named = (prefix: string, tensors: Iterable<[string, Tensor]>): GoldenOutputs =>
    Object.fromEntries([...tensors].map(([name, tensor]) => [prefix + name, tensor.clone()]));
  const after: Record<string, Undetermined> = {};
  if (options.adamStep) {
    const optimizer = new Optimizer(parameters, adam({ learningRate: LEARNING_RATE }));
    optimizer.step(grads);
    optimizer.dispose();
    for (const [name, parameter] of parameters) {
      if (!STEPPED.test(name)) continue;
      after[`after_adam.${name}`] = await stepped(parameter.stored.clone(), grads.get(name) as Tensor);
    }
  }
  const outputs = {
    out,
    loss: tidy(() => reshape(loss, [1])),
    ...named('grad.', grads),
    ...after,
  };
  loss.dispose();
  disposeMap(grads);
  model.dispose();
  return outputs;
}

export const positionalAttentionGolden = defineGolden({
  'positional-attention/positional_transformer': (inputs: Case) => network(inputs, { adamStep: true }),
  'positional-attention/positional_transformer_vector_positions': (inputs: Case) => network(inputs),
  'positional-attention/standard_transformer': (inputs: Case) => network(inputs, { positional: false }),
});
