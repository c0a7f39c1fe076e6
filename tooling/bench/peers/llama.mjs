/**
 * The Llama that every peer trains: 6 layers of width 384, 8 x 128 tokens, 4096 words; loss, gradients and AdamW over all
 * weights, or over LoRA adapters of rank 8 on all projections. The weights are a formula, as in `gpt.mjs`.
 */
import { noise } from './gpt.mjs';

/** Standard names and shapes of the weights, in order: the place in the list is the seed. */
function weightsOf({ layers, width, hidden, words }) {
  const block = (i) => {
    const prefix = `model.layers.${i}`;
    return [
      [`${prefix}.input_layernorm.weight`, [width]],
      ...['q', 'k', 'v', 'o'].map((p) => [`${prefix}.self_attn.${p}_proj.weight`, [width, width]]),
      [`${prefix}.post_attention_layernorm.weight`, [width]],
      ...['gate', 'up'].map((p) => [`${prefix}.mlp.${p}_proj.weight`, [hidden, width]]),
      [`${prefix}.mlp.down_proj.weight`, [width, hidden]],
    ];
  };
  return [
    ['model.embed_tokens.weight', [words, width]],
    ...Array.from({ length: layers }, (_, i) => block(i)).flat(),
    ['model.norm.weight', [width]],
    ['lm_head.weight', [words, width]],
  ];
}

export function llamaSetting({ layers = 6, width = 384, batch = 8, length = 128, words = 4096 } = {}) {
  // As in Llama's own sizes, 8 / 3 of the width, made a multiple of 32.
  const hidden = Math.ceil((8 * width) / 3 / 32) * 32;
  const setting = { layers, width, hidden, heads: width / 64, words, batch, length, scale: 0.07, epsilon: 1e-6 };
  const weights = weightsOf(setting);
  const adapted = weights
    .filter(([name]) => name.includes('_proj'))
    .map(([name, shape]) => [name.replace('.weight', ''), shape]);
  return { ...setting, weights, adapted, rank: 8, alpha: 16, learningRate: 1e-3, weightDecay: 0.01 };
}

export const llamaWeight = ({ scale }, name, shape, seed) => {
  const size = shape.reduce((a, b) => a * b, 1);
  return name.includes('norm') ? new Float32Array(size).fill(1) : noise(size, seed).map((x) => scale * x);
};

export const loraWeight = ({ scale, rank }, inputs, seed) => noise(rank * inputs, 1000 + seed).map((x) => scale * x);

export const llamaTokens = ({ batch, length, words }) => ({
  ids: Int32Array.from({ length: batch * length }, (_, i) => (i * 7919) % words),
  labels: Int32Array.from({ length: batch * length }, (_, i) => (i * 104729) % words),
});

/** Multiplications and additions of the matrix products: forward, and backward to the weights that train. */
export function llamaFlops({ layers, width, hidden, words, batch, length, adapted, rank }, lora) {
  const tokens = batch * length;
  const products = layers * (4 * width ** 2 + 3 * width * hidden) + words * width;
  const attention = layers * 2 * length * width;
  const adapters = adapted.reduce((sum, [, [out, inputs]]) => sum + rank * (out + inputs), 0);
  return 2 * tokens * (lora ? 2 * products + 3 * (attention + adapters) : 3 * (products + attention));
}
