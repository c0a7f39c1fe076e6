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
  type Tensor2D,
  tidy,
} from '@ashlar/tensor';
import {
  defineGolden,
  type GoldenFunction,
  type GoldenInputs,
  type GoldenOutputs,
  Undetermined,
} from '../../../tooling/golden/src/define-golden.ts';
import { PositionalTransformer } from '../src/index.ts';

interface Case extends GoldenInputs {
  x: Tensor;
  positions: Tensor2D;
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

/**
 * A bias of `qk_proj` after the step. The softmax over the keys does not see the keys' half, the second of every head's
 * `2 * width`: its gradient is 0 but for rounding, and as Adam divides a gradient by its size, the step is anything up to
 * the learning rate, either way.
 */
function steppedBias(bias: Tensor, width: number): Undetermined {
  const by = Array.from({ length: bias.size }, (_, i) => (i % (2 * width) < width ? 0 : 2 * LEARNING_RATE));
  return new Undetermined(bias, by, "the keys' gradient is 0 but for rounding, which Adam scales up");
}

/** Output, mean squared error over the first `n` nodes and its gradients; on request some parameters after a step of Adam. */
function network(inputs: Case, options: { positional?: boolean; adamStep?: boolean } = {}): GoldenOutputs {
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
    positionDim: positions.shape[1],
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
  const after: Record<string, Tensor | Undetermined> = {};
  if (options.adamStep) {
    const optimizer = new Optimizer(parameters, adam({ learningRate: LEARNING_RATE }));
    optimizer.step(grads);
    optimizer.dispose();
    for (const [name, parameter] of parameters) {
      if (!STEPPED.test(name)) continue;
      const stepped = parameter.stored.clone();
      after[`after_adam.${name}`] = name.endsWith('qk_proj.bias') ? steppedBias(stepped, positions.shape[1]) : stepped;
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

/** Files hold parameters after the step where their description tells of it. */
const positional = (stepByDefault: boolean): GoldenFunction => {
  return (inputs, _, { description }) =>
    network(inputs as Case, { adamStep: description?.includes('after_adam') ?? stepByDefault });
};

export const positionalAttentionGolden = defineGolden({
  'positional-attention/positional_transformer': positional(true),
  'positional-attention/positional_transformer_vector_positions': positional(false),
  'positional-attention/standard_transformer': (inputs: Case) => network(inputs, { positional: false }),
});
