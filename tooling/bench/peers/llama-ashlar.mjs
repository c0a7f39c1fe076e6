/**
 * The Llama of `llama.mjs` in Ashlar: `node llama-ashlar.mjs <task> <setting> <eager | jit | wasm | cpu>`, where the task is `llama-full`,
 * `llama-lora`, whose adapters start as the peers' do, or one of `adapters.mjs`.
 */
import '@ashlar/backend-ort';
import { createModel } from '@ashlar/models';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  crossEntropy,
  disposeMap,
  jit,
  lossAndGrads,
  moduleState,
  Rng,
  setBackend,
  tensor,
  tensor2d,
} from '@ashlar/tensor';
import { ADAPTERS } from './adapters.mjs';
import { llamaTokens, llamaWeight, loraWeight } from './llama.mjs';
import { serve } from './serve.mjs';

const [task, json, engine] = process.argv.slice(2);
const setting = JSON.parse(json);
if (engine === 'wasm') await import('@tensorflow/tfjs-backend-wasm');
await setBackend(engine === 'wasm' || engine === 'cpu' ? engine : 'ort');
const model = createModel(
  {
    model_type: 'llama',
    vocab_size: setting.words,
    hidden_size: setting.width,
    intermediate_size: setting.hidden,
    num_hidden_layers: setting.layers,
    num_attention_heads: setting.heads,
    num_key_value_heads: setting.heads,
    max_position_embeddings: setting.length,
    rms_norm_eps: setting.epsilon,
    tie_word_embeddings: false,
  },
  { rng: new Rng(0) },
);
for (const [seed, [name, shape]] of setting.weights.entries()) {
  model.getParameter(name).assign(tensor(llamaWeight(setting, name, shape, seed), shape));
}
const { attach, gradients = lossAndGrads } = ADAPTERS[task.replace('llama-', '')];
attach(model);
if (task === 'llama-lora') {
  for (const [seed, [name, [, inputs]]] of setting.adapted.entries()) {
    const a = tensor(loraWeight(setting, inputs, seed), [setting.rank, inputs]);
    model.getParameter(`${name}.lora_A.default.weight`).assign(a);
  }
}
model.train();
const { learningRate, weightDecay } = setting;
const optimizer = new Optimizer(model.trainableParameters(), adamw({ learningRate, weightDecay }));
const tokens = llamaTokens(setting);
const [ids, labels] = [tokens.ids, tokens.labels].map((list) =>
  tensor2d(list, [setting.batch, setting.length], 'int32'),
);

function step(x, y) {
  const { loss, grads } = gradients(() => crossEntropy(model.apply(x), y), optimizer.parameters);
  optimizer.step(grads);
  disposeMap(grads);
  return loss;
}
const run = engine === 'jit' ? jit(step, { state: [moduleState(model), optimizer] }) : step;

const trained = [...optimizer.parameters.values()].reduce((n, { size }) => n + size, 0);
serve(
  'ashlar',
  () => {
    const loss = run(ids, labels);
    const value = loss.dataSync()[0];
    loss.dispose();
    return value;
  },
  { 'numbers that train': trained },
);
