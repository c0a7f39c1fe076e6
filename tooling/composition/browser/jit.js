// Trains a small network in a browser, as it is and as one graph, and prints whether the losses agree.
import { setExecutionProviders } from '@ashlar/backend-ort';
import { createModel } from '@ashlar/models';
import { adamw, Optimizer } from '@ashlar/optim';
import { attach, lora } from '@ashlar/peft';
import { crossEntropy, disposeMap, jitAsync, lossAndGrads, memory, moduleState, Rng, setBackend } from '@ashlar/tensor';
import { crossEntropyObjective, train } from '@ashlar/train';

await setBackend('ort');

const CONFIG = {
  model_type: 'llama',
  vocab_size: 40,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
};

function adaptedLlama() {
  const rng = new Rng('browser');
  const model = createModel(CONFIG, { rng: rng.fork('model') });
  attach(model, lora({ r: 4, loraDropout: 0.1, targetModules: 'all-linear' }), { rng: rng.fork('lora') });
  return model.train();
}

const batch = (i) => {
  const rng = new Rng(i);
  return { x: rng.integers([2, 8], 0, 40), labels: rng.integers([2, 8], 0, 40) };
};

/** The losses of five steps. */
async function losses(useJit) {
  const model = adaptedLlama();
  const optimizer = new Optimizer(model.trainableParameters(), adamw({ learningRate: 1e-2 }));
  const plain = (x, labels) => {
    const { loss, grads } = lossAndGrads(() => crossEntropy(model.apply(x), labels), optimizer.parameters);
    optimizer.step(grads);
    disposeMap(grads);
    return loss;
  };
  const jitted = jitAsync(plain, { state: [moduleState(model), optimizer] });
  const result = [];
  for (let i = 0; i < 5; i++) {
    const { x, labels } = batch(i);
    const loss = await (useJit ? jitted : plain)(x, labels);
    result.push((await loss.data())[0]);
    for (const tensor of [x, labels, loss]) tensor.dispose();
  }
  if (useJit && jitted.traces !== 1) throw new Error(`traced ${jitted.traces} times`);
  jitted.dispose();
  optimizer.dispose();
  model.dispose();
  return result;
}

function compare(name, actual, expected, tolerance) {
  const worst = Math.max(...actual.map((loss, i) => Math.abs(loss / expected[i] - 1)));
  if (!(worst < tolerance)) throw new Error(`${name}: ${actual} instead of ${expected}`);
  console.log(`${name}: losses agree to ${worst.toExponential(1)}`);
}

console.log(`threads: ${globalThis.crossOriginIsolated}`);
const before = memory().numTensors;
const expected = await losses(false);
setExecutionProviders(['wasm']);
compare('wasm', await losses(true), expected, 1e-5);
if (memory().numTensors !== before) throw new Error(`${memory().numTensors - before} tensors are left`);

const model = adaptedLlama();
const trained = [];
for await (const event of train({
  model,
  forward: ({ x, labels }) => ({ logits: model.apply(x), labels }),
  objective: crossEntropyObjective(),
  batches: batch,
  optimizer: adamw({ learningRate: 1e-2 }),
  steps: 5,
})) {
  if (event.type === 'warning') throw new Error(event.message);
  if (event.type === 'step') trained.push(event.loss);
}
compare('train', trained, expected, 1e-5);

if (await navigator.gpu?.requestAdapter()) {
  setExecutionProviders(['webgpu', 'wasm']);
  compare('webgpu', await losses(true), expected, 1e-3);
} else {
  console.log('webgpu: no adapter');
}
