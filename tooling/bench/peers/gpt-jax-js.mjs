/** The GPT of `gpt.mjs` in jax-js, on its WebAssembly device. */
import { defaultDevice, init, jit, nn, numpy as np, tree, valueAndGrad } from '@jax-js/jax';
import { BATCH, EPSILON, gptWeights, HEADS, LENGTH, RATE, tokens, WIDTH, WORDS } from './gpt.mjs';
import { serve } from './serve.mjs';

await init('wasm');
defaultDevice('wasm');

const array = ({ data, shape }) => np.array(data).reshape(shape);

function layerNorm(x, scale) {
  const centred = x.ref.sub(np.mean(x, -1, { keepdims: true }));
  const variance = np.mean(np.square(centred.ref), -1, { keepdims: true });
  return centred.div(np.sqrt(variance.add(EPSILON))).mul(scale);
}

const heads = (x) => x.reshape([BATCH, LENGTH, HEADS, WIDTH / HEADS]).transpose([0, 2, 1, 3]);

function block(x, { qkv, out, up, down, scale1, scale2 }, mask) {
  const [q, k, v] = np.split(np.matmul(layerNorm(x.ref, scale1), qkv), 3, -1).map(heads);
  const scores = np
    .matmul(q, k.transpose([0, 1, 3, 2]))
    .mul(1 / Math.sqrt(WIDTH / HEADS))
    .add(mask);
  const mixed = np
    .matmul(nn.softmax(scores, -1), v)
    .transpose([0, 2, 1, 3])
    .reshape([BATCH * LENGTH, WIDTH]);
  const attended = x.add(np.matmul(mixed, out));
  const hidden = nn.gelu(np.matmul(layerNorm(attended.ref, scale2), up), { approximate: true });
  return attended.add(np.matmul(hidden, down));
}

function loss({ embedding, position, layers }, words, next, mask) {
  const embedded = np.matmul(nn.oneHot(words, WORDS), embedding.ref).reshape([BATCH, LENGTH, WIDTH]).add(position);
  let x = embedded.reshape([BATCH * LENGTH, WIDTH]);
  for (const layer of layers) x = block(x, layer, mask.ref);
  mask.dispose();
  const logits = np.matmul(x, embedding.transpose());
  return np.mean(np.sum(nn.logSoftmax(logits, -1).mul(nn.oneHot(next, WORDS)), -1)).neg();
}

const step = jit((parameters, words, next, mask) => {
  const [value, gradients] = valueAndGrad(loss)(tree.ref(parameters), words, next, mask);
  return [value, tree.map((p, g) => p.sub(g.mul(RATE)), parameters, gradients)];
});

const { embedding, position, layers } = gptWeights();
let parameters = {
  embedding: array(embedding),
  position: array(position),
  layers: layers.map((layer) => Object.fromEntries(Object.entries(layer).map(([name, w]) => [name, array(w)]))),
};
const { words, next } = tokens();
const mask = np.where(np.tril(np.ones([LENGTH, LENGTH])).equal(0), -1e9, 0);
const [ids, labels] = [words, next].map((list) => np.array(list, { dtype: np.int32 }));

serve('jax-js', () => {
  const [value, updated] = step(parameters, ids.ref, labels.ref, mask.ref);
  parameters = updated;
  for (const leaf of tree.leaves(parameters)) leaf.ref.blockUntilReady?.();
  return value.dataSync()[0];
});
