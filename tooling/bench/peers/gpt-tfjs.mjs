/** The GPT of `gpt.mjs` in plain TensorFlow.js: `node gpt-tfjs.mjs <cpu | wasm | ort | ort-jit>`. */
import '@tensorflow/tfjs-backend-cpu';
import { jit } from '@ashlar/tensor';
import * as tf from '@tensorflow/tfjs-core';
import { BATCH, EPSILON, gptWeights, HEADS, LENGTH, RATE, tokens, WIDTH, WORDS } from './gpt.mjs';
import { serve } from './serve.mjs';

const [engine] = process.argv.slice(2);
const backend = engine.split('-')[0];
if (backend === 'wasm') await import('@tensorflow/tfjs-backend-wasm');
if (backend === 'ort') await import('@ashlar/backend-ort');
if (!(await tf.setBackend(backend))) throw new Error(`the backend ${backend} does not start`);

function layerNorm(x, scale) {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  return tf.mul(tf.mul(centred, tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), EPSILON))), scale);
}

const gelu = (x) =>
  tf.mul(
    tf.mul(x, 0.5),
    tf.add(tf.tanh(tf.mul(tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715)), Math.sqrt(2 / Math.PI))), 1),
  );
const heads = (x) => tf.transpose(tf.reshape(x, [BATCH, LENGTH, HEADS, WIDTH / HEADS]), [0, 2, 1, 3]);

function block(x, [qkv, out, up, down, scale1, scale2], mask) {
  const [q, k, v] = tf.split(tf.matMul(layerNorm(x, scale1), qkv), 3, -1).map(heads);
  const scores = tf.add(tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(WIDTH / HEADS)), mask);
  const mixed = tf.reshape(tf.transpose(tf.matMul(tf.softmax(scores), v), [0, 2, 1, 3]), [BATCH * LENGTH, WIDTH]);
  const attended = tf.add(x, tf.matMul(mixed, out));
  return tf.add(attended, tf.matMul(gelu(tf.matMul(layerNorm(attended, scale2), up)), down));
}

// The wasm backend has no kernel for the gradient of a gather, nor a log-softmax: there both are spelled out.
const spelledOut = backend === 'wasm';
const embed = (embedding, words) =>
  spelledOut ? tf.matMul(tf.cast(tf.oneHot(words, WORDS), 'float32'), embedding) : tf.gather(embedding, words);
const logSoftmax = (x) => {
  if (!spelledOut) return tf.logSoftmax(x);
  const shifted = tf.sub(x, tf.max(x, -1, true));
  return tf.sub(shifted, tf.log(tf.sum(tf.exp(shifted), -1, true)));
};

function lossOf([embedding, position, ...rest], words, next, mask) {
  const embedded = tf.add(tf.reshape(embed(embedding, words), [BATCH, LENGTH, WIDTH]), position);
  let x = tf.reshape(embedded, [BATCH * LENGTH, WIDTH]);
  for (let i = 0; i < rest.length; i += 6) x = block(x, rest.slice(i, i + 6), mask);
  const logits = tf.matMul(x, embedding, false, true);
  return tf.neg(tf.mean(tf.sum(tf.mul(logSoftmax(logits), tf.oneHot(next, WORDS)), -1)));
}

function step(weights, words, next, mask) {
  const { value, grads } = tf.valueAndGrads((...list) => lossOf(list, words, next, mask))(weights);
  return { value, updated: weights.map((weight, i) => tf.sub(weight, tf.mul(grads[i], RATE))) };
}

const { embedding, position, layers } = gptWeights();
let weights = [embedding, position, ...layers.flatMap((layer) => Object.values(layer))].map(({ data, shape }) =>
  tf.tensor(data, shape),
);
const { words, next } = tokens();
const [ids, labels] = [words, next].map((list) => tf.tensor1d(list, 'int32'));
const mask = tf.tensor2d(
  Float32Array.from({ length: LENGTH ** 2 }, (_, i) => (i % LENGTH > Math.floor(i / LENGTH) ? -1e9 : 0)),
  [LENGTH, LENGTH],
);
const run = engine === 'ort-jit' ? jit(step) : step;

serve(`tfjs ${tf.version_core}`, () => {
  const { value, updated } = tf.tidy(() => run(weights, ids, labels, mask));
  const loss = value.dataSync()[0];
  // What may still be under way (wasm runs at once; a GPU would not).
  updated.at(-1).dataSync();
  tf.dispose([value, ...weights]);
  weights = updated;
  return loss;
});
