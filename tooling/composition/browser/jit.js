// Trains a small network in a browser, as it is and as one graph, and prints whether the losses agree.
import { setExecutionProviders } from '@ashlar/backend-ort';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  abs,
  crossEntropy,
  disposeMap,
  exp,
  jitAsync,
  lossAndGrads,
  matMul,
  max,
  memory,
  moduleState,
  Parameter,
  parameterState,
  Rng,
  setBackend,
  sub,
  tidy,
} from '@ashlar/tensor';
import { crossEntropyObjective, train } from '@ashlar/train';
import { batchOf, llama } from './llama.ts';

await setBackend('ort');

const adaptedLlama = () => llama('LoRA', { dropout: 0.1 });

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
    const { x, labels } = batchOf(i);
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

/** Whether a function of state that stays, is replaced and stays again computes the same as without jit. */
async function keeps(name, tolerance) {
  const rng = new Rng(1);
  const draw = (i) => rng.fork(i).normal([64, 64], { std: 0.3 });
  const table = new Parameter({ shape: [64, 64], init: () => draw('table') });
  const fn = (x) => tidy(() => matMul(x, exp(matMul(table.value, table.value))));
  const jitted = jitAsync(fn, { state: [parameterState([table])] });
  let worst = 0;
  for (const [i, replaced] of [false, false, false, true, false].entries()) {
    if (replaced) table.assign(draw('another table'));
    const x = draw(i);
    const [actual, expected] = [await jitted(x), fn(x)];
    const error = tidy(() => max(abs(sub(actual, expected))));
    worst = Math.max(worst, (await error.data())[0]);
    for (const tensor of [x, actual, expected, error]) tensor.dispose();
  }
  jitted.dispose();
  table.dispose();
  if (!(worst < tolerance)) throw new Error(`${name}: with what is kept the results differ by ${worst}`);
  console.log(`${name}: right with what is kept`);
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
await keeps('wasm', 1e-3);
if (memory().numTensors !== before) throw new Error(`${memory().numTensors - before} tensors are left`);

const model = adaptedLlama();
const trained = [];
for await (const event of train({
  model,
  forward: ({ x, labels }) => ({ logits: model.apply(x), labels }),
  objective: crossEntropyObjective(),
  batches: batchOf,
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
  await keeps('webgpu', 1e-3);
} else {
  console.log('webgpu: no adapter');
}
