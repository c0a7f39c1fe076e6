/**
 * One training step (forward and backward) of a small GPT: 4 layers, width 256, 8 x 128 tokens, 1000 words.
 * `node bench/gpt.mjs [backend] [--kernels]` after building this package and @ashlar/tensor (for the gradients).
 */
import '@ashlar/backend-ort';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';

// After TensorFlow.js itself, whose registries it fills.
await import('../../tensor/dist/gradients.js');

const [BATCH, LENGTH, WIDTH, HEADS, LAYERS, WORDS] = [8, 128, 256, 4, 4, 1000];
const backend = process.argv[2]?.startsWith('--') ? 'ort' : (process.argv[2] ?? 'ort');
await tf.setBackend(backend);

const weight = (...shape) => tf.variable(tf.randomNormal(shape, 0, 0.02, 'float32', 1));
const layers = Array.from({ length: LAYERS }, () => ({
  qkv: weight(WIDTH, 3 * WIDTH),
  out: weight(WIDTH, WIDTH),
  up: weight(WIDTH, 4 * WIDTH),
  down: weight(4 * WIDTH, WIDTH),
  scale1: tf.variable(tf.ones([WIDTH])),
  scale2: tf.variable(tf.ones([WIDTH])),
}));
const embedding = weight(WORDS, WIDTH);
const position = weight(LENGTH, WIDTH);

const tokens = tf.tensor2d(
  Int32Array.from({ length: BATCH * LENGTH }, (_, i) => (i * 7919) % WORDS),
  [BATCH, LENGTH],
  'int32',
);
const labels = tf.tensor1d(
  Int32Array.from({ length: BATCH * LENGTH }, (_, i) => (i * 104729) % WORDS),
  'int32',
);
const mask = tf.tensor2d(
  Float32Array.from({ length: LENGTH ** 2 }, (_, i) => (i % LENGTH > i / LENGTH ? -1e9 : 0)),
  [LENGTH, LENGTH],
);

function layerNorm(x, scale) {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  return tf.mul(tf.mul(centred, tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), 1e-5))), scale);
}

const gelu = (x) =>
  tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(tf.mul(tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715)), 0.79788456)), 1));
const heads = (x) => tf.transpose(tf.reshape(x, [BATCH, LENGTH, HEADS, WIDTH / HEADS]), [0, 2, 1, 3]);

function block(x, { qkv, out, up, down, scale1, scale2 }) {
  const [q, k, v] = tf.split(tf.matMul(layerNorm(x, scale1), qkv), 3, -1).map(heads);
  const scores = tf.add(tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(WIDTH / HEADS)), mask);
  const mixed = tf.reshape(tf.transpose(tf.matMul(tf.softmax(scores), v), [0, 2, 1, 3]), [BATCH * LENGTH, WIDTH]);
  const attended = tf.add(x, tf.matMul(mixed, out));
  return tf.add(attended, tf.matMul(gelu(tf.matMul(layerNorm(attended, scale2), up)), down));
}

function loss() {
  const embedded = tf.add(tf.gather(embedding, tokens), position);
  const x = layers.reduce(block, tf.reshape(embedded, [BATCH * LENGTH, WIDTH]));
  const logits = tf.matMul(x, embedding, false, true);
  return tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), tf.oneHot(labels, WORDS)), -1)));
}

function step() {
  const { value, grads } = tf.variableGrads(loss);
  const number = value.dataSync()[0];
  tf.dispose([value, grads]);
  return number;
}

const flops = 6 * BATCH * LENGTH * (LAYERS * (12 * WIDTH ** 2 + 2 * LENGTH * WIDTH) + WORDS * WIDTH);
console.log('loss', step());
if (process.argv.includes('--kernels')) {
  const { kernels } = await tf.profile(step);
  const totals = new Map();
  for (const { name, kernelTimeMs } of kernels) {
    const [ms, n] = totals.get(name) ?? [0, 0];
    totals.set(name, [ms + (await kernelTimeMs), n + 1]);
  }
  for (const [name, [ms, n]] of [...totals].sort((a, b) => b[1][0] - a[1][0]).slice(0, 14)) {
    console.log(`${name.padEnd(22)} ${ms.toFixed(1).padStart(8)} ms in ${n} calls`);
  }
}
const times = [];
for (let i = 0; i < (backend === 'ort' ? 8 : 1); i++) {
  const start = performance.now();
  step();
  times.push(performance.now() - start);
}
const median = times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
console.log(`${backend}: ${median.toFixed(0)} ms a step, ${(flops / median / 1e6).toFixed(1)} GFLOP/s`);
