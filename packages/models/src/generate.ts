import { KeyValueCache } from '@ashlar/nn';
import { ConfigError, NumericsError, type Rng, type Tensor, tensor2d, tidy } from '@ashlar/tensor';
import type { CausalLM } from './causal-lm.ts';

export interface GenerateOptions {
  /** Tokens to make at most. Default 64. */
  maxNewTokens?: number;
  /** Divides the logits; 0 takes the likeliest token each time. Default 1. */
  temperature?: number;
  /** Draw from the `topK` likeliest tokens only. */
  topK?: number;
  /** Draw from the fewest likeliest tokens whose probabilities, after `topK`, add up to at least this. */
  topP?: number;
  /** Source of the draws; needed unless `temperature` is 0. */
  rng?: Rng;
  /** Tokens that end the text; the one met is not given out. Default the config's `eos_token_id`. */
  stopTokens?: readonly number[];
  signal?: AbortSignal;
}

/**
 * Continues `prompt`, giving out each token as it is drawn. It uses a key-value cache; a text that reaches the model's
 * context length goes on with its last half, encoded anew.
 *
 * Leaves no tensor behind, also when the consumer stops early. The model runs in evaluation mode, without dropout.
 * @throws ConfigError for options out of range, an empty prompt, or a token that the vocabulary does not have;
 *   NumericsError when the logits have a NaN.
 */
export async function* generate(
  model: CausalLM,
  prompt: ArrayLike<number>,
  options: GenerateOptions = {},
): AsyncGenerator<number, void, undefined> {
  const { maxNewTokens = 64, stopTokens = [model.config.eos_token_id ?? []].flat(), signal } = options;
  const draw = sampler(options);
  const tokens = Array.from(prompt);
  const { vocab_size } = model.config;
  if (tokens.length === 0) throw new ConfigError('The prompt is empty; give at least one token.');
  const odd = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocab_size);
  if (odd !== undefined) throw new ConfigError(`The prompt has token ${odd}; the vocabulary has ${vocab_size}.`);
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 0) {
    throw new ConfigError(`maxNewTokens is ${maxNewTokens}; it must be an integer of at least 0.`);
  }
  const cache = new KeyValueCache();
  try {
    let fresh = tokens.slice(-model.contextLength);
    for (let made = 0; made < maxNewTokens; made++) {
      if (signal?.aborted) return;
      if (cache.length + fresh.length > model.contextLength) {
        cache.dispose();
        fresh = tokens.slice(-Math.max(1, Math.floor(model.contextLength / 2)));
      }
      const next = draw(await lastLogits(model, fresh, cache));
      if (stopTokens.includes(next)) return;
      tokens.push(next);
      fresh = [next];
      yield next;
    }
  } finally {
    cache.dispose();
  }
}

async function lastLogits(model: CausalLM, ids: number[], cache: KeyValueCache): Promise<Float32Array> {
  const logits = evaluating(model, () =>
    tidy((): Tensor => model.apply(tensor2d([ids], [1, ids.length], 'int32'), { cache, lastOnly: true })),
  );
  const values = (await logits.data()) as Float32Array;
  logits.dispose();
  if (values.some(Number.isNaN))
    throw new NumericsError('The logits of the next token have a NaN; so may the weights.');
  return values;
}

function evaluating<T>(model: CausalLM, run: () => T): T {
  const modules = [...model.namedModules()].map(([, module]) => ({ module, training: module.training }));
  model.eval();
  try {
    return run();
  } finally {
    for (const { module, training } of modules) module.training = training;
  }
}

/** A function from logits to a token. */
function sampler({ temperature = 1, topK, topP, rng }: GenerateOptions): (logits: Float32Array) => number {
  if (!(temperature >= 0 && Number.isFinite(temperature))) {
    throw new ConfigError(`temperature is ${temperature}; it must be a number of at least 0.`);
  }
  if (topK !== undefined && !(Number.isInteger(topK) && topK > 0)) {
    throw new ConfigError(`topK is ${topK}; it must be a positive integer.`);
  }
  if (topP !== undefined && !(topP > 0 && topP <= 1)) throw new ConfigError(`topP is ${topP}; it must be in (0, 1].`);
  if (temperature === 0) return (logits) => logits.reduce((best, value, i) => (value > logits[best] ? i : best), 0);
  if (rng === undefined) throw new ConfigError('rng is missing; drawing tokens needs one, unless temperature is 0.');
  return (logits) => {
    let candidates = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a]);
    if (topK !== undefined) candidates = candidates.slice(0, topK);
    const highest = logits[candidates[0]];
    const weights = candidates.map((token) => Math.exp((logits[token] - highest) / temperature));
    const kept = topP === undefined ? weights.length : nucleus(weights, topP);
    return candidates[rng.choice(kept, 1, { weights: weights.slice(0, kept) })[0]];
  };
}

/** How many of the descending `weights` add up to at least the share `topP` of all. */
function nucleus(weights: readonly number[], topP: number): number {
  const needed = topP * weights.reduce((sum, weight) => sum + weight, 0);
  let mass = 0;
  for (const [i, weight] of weights.entries()) {
    mass += weight;
    if (mass >= needed) return i + 1;
  }
  return weights.length;
}
