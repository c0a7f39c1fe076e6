/** The Llama of `llama.mjs` in jax-js: `node llama-jax-js.mjs <llama-full | llama-lora> <setting>`. */
import { defaultDevice, init, jit, nn, numpy as np, tree, valueAndGrad } from '@jax-js/jax';
import { llamaTokens, llamaWeight, loraWeight } from './llama.mjs';
import { serve } from './serve.mjs';

const [task, json] = process.argv.slice(2);
const setting = JSON.parse(json);
const { layers, width, heads, words, batch, length, epsilon, rank, alpha } = setting;
const dim = width / heads;
await init('wasm');
defaultDevice('wasm');

const array = (data, shape) => np.array(data).reshape(shape);
const weights = Object.fromEntries(
  setting.weights.map(([name, shape], seed) => [name, array(llamaWeight(setting, name, shape, seed), shape)]),
);
const adapters = {};
if (task === 'llama-lora') {
  for (const [seed, [name, [outputs, inputs]]] of setting.adapted.entries()) {
    adapters[`${name}.a`] = array(loraWeight(setting, inputs, seed), [rank, inputs]);
    adapters[`${name}.b`] = np.zeros([outputs, rank]);
  }
}

const product = (x, w) => np.matmul(x, w.transpose());

function loss(p, ids, labels, cos, sin, mask) {
  const linear = (x, name) => {
    if (!(`${name}.a` in p)) return product(x, p[`${name}.weight`]);
    const low = product(product(x.ref, p[`${name}.a`]), p[`${name}.b`]).mul(alpha / rank);
    return product(x, p[`${name}.weight`]).add(low);
  };
  const norm = (x, name) => {
    const scale = np.sqrt(np.mean(np.square(x.ref), -1, { keepdims: true }).add(epsilon));
    return x.div(scale).mul(p[`${name}.weight`]);
  };
  const split = (x) => x.reshape([batch, length, heads, dim]).transpose([0, 2, 1, 3]);
  const rotate = (x) => {
    const [first, second] = np.split(x.ref, 2, -1);
    return x.mul(cos.ref).add(np.concatenate([second.neg(), first], -1).mul(sin.ref));
  };
  let x = np.matmul(nn.oneHot(ids, words), p['model.embed_tokens.weight']);
  for (let i = 0; i < layers; i++) {
    const prefix = `model.layers.${i}`;
    const h = norm(x.ref, `${prefix}.input_layernorm`);
    const q = rotate(split(linear(h.ref, `${prefix}.self_attn.q_proj`)));
    const k = rotate(split(linear(h.ref, `${prefix}.self_attn.k_proj`)));
    const v = split(linear(h, `${prefix}.self_attn.v_proj`));
    const scores = np
      .matmul(q, k.transpose([0, 1, 3, 2]))
      .mul(1 / Math.sqrt(dim))
      .add(mask.ref);
    const mixed = np
      .matmul(nn.softmax(scores, -1), v)
      .transpose([0, 2, 1, 3])
      .reshape([batch * length, width]);
    x = x.add(linear(mixed, `${prefix}.self_attn.o_proj`));
    const g = norm(x.ref, `${prefix}.post_attention_layernorm`);
    const gate = nn.silu(linear(g.ref, `${prefix}.mlp.gate_proj`));
    x = x.add(linear(gate.mul(linear(g, `${prefix}.mlp.up_proj`)), `${prefix}.mlp.down_proj`));
  }
  for (const table of [cos, sin, mask]) table.dispose();
  const logits = product(norm(x, 'model.norm'), p['lm_head.weight']);
  return np.mean(np.sum(nn.logSoftmax(logits, -1).mul(nn.oneHot(labels, words)), -1)).neg();
}

const [B1, B2, EPS] = [0.9, 0.999, 1e-8];
const { learningRate, weightDecay } = setting;

/** AdamW of `trained`; `c1` and `c2` are the corrections for the moments' start at zero. */
const step = jit((trained, frozen, m, v, c1, c2, ...inputs) => {
  const lossOf = (p, rest, ...others) => loss({ ...p, ...rest }, ...others);
  const [value, g] = valueAndGrad(lossOf)(tree.ref(trained), frozen, ...inputs);
  const m2 = tree.map((m, g) => m.mul(B1).add(g.mul(1 - B1)), m, tree.ref(g));
  const v2 = tree.map((v, g) => v.mul(B2).add(np.square(g).mul(1 - B2)), v, g);
  const updated = tree.map(
    (p, m, v) => {
      const direction = m.mul(c1.ref).div(np.sqrt(v.mul(c2.ref)).add(EPS));
      return p.mul(1 - learningRate * weightDecay).sub(direction.mul(learningRate));
    },
    trained,
    tree.ref(m2),
    tree.ref(v2),
  );
  c1.dispose();
  c2.dispose();
  return [value, updated, m2, v2];
});

const tokens = llamaTokens(setting);
const [ids, labels] = [tokens.ids, tokens.labels].map((list) => np.array(list, { dtype: np.int32 }));
const angle = (position, pair) => position * 10000 ** ((-2 * pair) / dim);
const table = (f) =>
  array(
    Float32Array.from({ length: length * dim }, (_, i) => f(angle(Math.floor(i / dim), (i % dim) % (dim / 2)))),
    [length, dim],
  );
const [cos, sin] = [table(Math.cos), table(Math.sin)];
const mask = np.where(np.tril(np.ones([length, length])).equal(0), -1e9, 0);

const lora = task === 'llama-lora';
let trained = lora ? adapters : weights;
const frozen = lora ? weights : {};
let m = tree.map((w) => np.zeros(w.shape), trained);
let v = tree.map((w) => np.zeros(w.shape), trained);
let count = 0;

serve('jax-js', () => {
  count++;
  const corrections = [1 / (1 - B1 ** count), 1 / (1 - B2 ** count)].map((x) => np.array(x));
  const inputs = [ids, labels, cos, sin, mask].map((x) => x.ref);
  const [value, ...state] = step(trained, tree.ref(frozen), m, v, ...corrections, ...inputs);
  [trained, m, v] = state;
  for (const leaf of tree.leaves(trained)) leaf.ref.dataSync();
  return value.dataSync()[0];
});
