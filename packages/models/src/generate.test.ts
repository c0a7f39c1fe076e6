import '@ashlar/backend-ort';
import { ConfigError, memory, NumericsError, Rng, setBackend, type Tensor, tensor3d } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { CausalLM, type CausalLMConfig, type CausalLMInput } from './causal-lm.ts';
import { type GenerateOptions, generate } from './generate.ts';
import { Gpt2 } from './gpt2.ts';
import { Llama } from './llama.ts';
import { GPT2, LLAMA } from './testing/checkpoint.ts';
import { logitsOf } from './testing/logits.ts';

beforeAll(() => setBackend('ort'));

const PROMPT = [3, 1, 4, 1, 5];

const llama = (fields = {}): Llama => new Llama({ ...LLAMA, initializer_range: 0.3, ...fields }, { rng: new Rng(1) });
const gpt2 = (fields = {}): Gpt2 => new Gpt2({ ...GPT2, initializer_range: 0.3, ...fields }, { rng: new Rng(1) });

async function collect(model: CausalLM, prompt: readonly number[], options: GenerateOptions): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of generate(model, prompt, options)) tokens.push(token);
  return tokens;
}

const argmax = (row: readonly number[]): number => row.indexOf(Math.max(...row));

/** Each token from all before it, without a cache. */
function greedyByHand(model: CausalLM, prompt: readonly number[], count: number): number[] {
  const tokens = [...prompt];
  let from = 0;
  for (let i = 0; i < count; i++) {
    if (tokens.length - from > model.contextLength) from = tokens.length - Math.floor(model.contextLength / 2);
    tokens.push(argmax(logitsOf(model, [tokens.slice(from)])[0].at(-1) as number[]));
  }
  return tokens.slice(prompt.length);
}

describe.each([
  ['llama', llama, 'max_position_embeddings'],
  ['gpt2', gpt2, 'n_positions'],
])('%s', (_, make, contextField) => {
  it('greedy with the cache equals greedy without', async () => {
    const model = make().eval();
    const tokens = await collect(model, PROMPT, { maxNewTokens: 20, temperature: 0 });
    expect(tokens).toEqual(greedyByHand(model, PROMPT, 20));
    expect(new Set(tokens).size).toBeGreaterThan(2);
    model.dispose();
  });

  it('goes on beyond the context length, from its last half', async () => {
    const model = make({ [contextField]: 8 }).eval();
    const tokens = await collect(model, PROMPT, { maxNewTokens: 30, temperature: 0 });
    expect(tokens).toEqual(greedyByHand(model, PROMPT, 30));
    const before = memory().numTensors;
    await collect(model, [...PROMPT, ...PROMPT, ...PROMPT], { maxNewTokens: 30, temperature: 0 });
    expect(memory().numTensors).toBe(before);
    model.dispose();
    expect(memory().numTensors).toBe(0);
  });

  it('a context of one token is a context too', async () => {
    const model = make({ [contextField]: 1 }).eval();
    expect(await collect(model, PROMPT, { maxNewTokens: 3, temperature: 0 })).toHaveLength(3);
    model.dispose();
  });

  it('leaves no tensor when the consumer stops, nor when the model throws', async () => {
    const model = make().eval();
    await collect(model, PROMPT, { maxNewTokens: 1, temperature: 0 });
    const before = memory().numTensors;
    for await (const _ of generate(model, PROMPT, { temperature: 0 })) break;
    expect(memory().numTensors).toBe(before);
    const steps = generate(model, PROMPT, { temperature: 0 });
    await steps.next();
    const hook = model.lm_head.registerForwardPreHook(() => {
      throw new Error('stop here');
    });
    await expect(steps.next()).rejects.toThrow('stop here');
    expect(memory().numTensors).toBe(before);
    hook.remove();
    model.dispose();
  });
});

it('dropout is off while generating, and the mode of each module as before after it', async () => {
  const model = gpt2({ resid_pdrop: 0.5, embd_pdrop: 0.5, attn_pdrop: 0.5 });
  model.transformer.ln_f.training = false;
  const tokens = await collect(model, PROMPT, { maxNewTokens: 10, temperature: 0 });
  expect([model.training, model.transformer.drop.training, model.transformer.ln_f.training]).toEqual([
    true,
    true,
    false,
  ]);
  expect(tokens).toEqual(greedyByHand(model.eval(), PROMPT, 10));
  model.dispose();
});

it('draws from the prompt given as a typed array too, which it does not change', async () => {
  const model = llama().eval();
  const prompt = Int32Array.from(PROMPT);
  const options = { maxNewTokens: 4, temperature: 0 };
  expect(await collect(model, prompt as unknown as number[], options)).toEqual(await collect(model, PROMPT, options));
  expect([...prompt]).toEqual(PROMPT);
  model.dispose();
});

/** Gives the same logits at every step. */
class FixedLM extends CausalLM {
  readonly config: CausalLMConfig;
  readonly contextLength = 1000;
  readonly #logits: readonly number[];

  constructor(logits: readonly number[], fields: Partial<CausalLMConfig> = {}) {
    super();
    this.config = { model_type: 'fixed', vocab_size: logits.length, ...fields };
    this.#logits = logits;
  }

  override forward(_ids: Tensor, _input?: CausalLMInput): Tensor {
    return tensor3d([[[...this.#logits]]]);
  }
}

describe('drawing', () => {
  const LOGITS = [1, 3, -1, 2.5, 0, 2];
  const DRAWS = 1500;

  /** How often each token should come, from the definitions: temperature, then top-k, then top-p. */
  function expected({ temperature = 1, topK = LOGITS.length, topP = 1 }: GenerateOptions): number[] {
    const ranked = LOGITS.map((logit, token) => ({ token, weight: Math.exp(logit / temperature) }))
      .sort((a, b) => b.weight - a.weight)
      .slice(0, topK);
    const share = (entries: typeof ranked): number => entries.reduce((sum, { weight }) => sum + weight, 0);
    const fewest = ranked.findIndex((_, i) => share(ranked.slice(0, i + 1)) / share(ranked) >= topP - 1e-12) + 1;
    const kept = ranked.slice(0, fewest);
    const probabilities = LOGITS.map(() => 0);
    for (const { token, weight } of kept) probabilities[token] = weight / share(kept);
    return probabilities;
  }

  it.each<[GenerateOptions, number]>([
    [{}, 6],
    [{ temperature: 0.5 }, 6],
    [{ temperature: 3 }, 6],
    [{ topK: 3 }, 3],
    [{ topK: 100 }, 6],
    [{ topP: 0.5 }, 2],
    [{ topP: 0.9 }, 3],
    [{ topP: 1 }, 6],
    [{ topP: 1e-9 }, 1],
    [{ topK: 3, topP: 0.7, temperature: 2 }, 2],
  ])('with %j follows the definitions', async (options, candidates) => {
    const probabilities = expected(options);
    expect(probabilities.filter((p) => p > 0)).toHaveLength(candidates);
    const model = new FixedLM(LOGITS);
    const tokens = await collect(model, [0], { ...options, maxNewTokens: DRAWS, rng: new Rng(7) });
    for (const [token, p] of probabilities.entries()) {
      const count = tokens.filter((drawn) => drawn === token).length;
      if (p === 0) expect(count).toBe(0);
      else expect(Math.abs(count / DRAWS - p)).toBeLessThanOrEqual(4 * Math.sqrt((p * (1 - p)) / DRAWS));
    }
  });

  it('of one token is greedy', async () => {
    const model = llama().eval();
    const greedy = await collect(model, PROMPT, { maxNewTokens: 12, temperature: 0 });
    expect(await collect(model, PROMPT, { maxNewTokens: 12, topK: 1, rng: new Rng(1) })).toEqual(greedy);
    expect(await collect(model, PROMPT, { maxNewTokens: 12, topP: 1e-9, rng: new Rng(1) })).toEqual(greedy);
    expect(await collect(model, PROMPT, { maxNewTokens: 12, temperature: 1e-300, rng: new Rng(1) })).toEqual(greedy);
    model.dispose();
  });

  it('repeats with the seed, and differs with another', async () => {
    const model = llama().eval();
    const draw = (seed: number): Promise<number[]> => collect(model, PROMPT, { maxNewTokens: 12, rng: new Rng(seed) });
    expect(await draw(5)).toEqual(await draw(5));
    expect(await draw(5)).not.toEqual(await draw(6));
    model.dispose();
  });

  it('never takes a token of logit -Infinity, and names a NaN', async () => {
    const masked = new FixedLM([0, Number.NEGATIVE_INFINITY, 0]);
    expect(await collect(masked, [0], { maxNewTokens: 200, rng: new Rng(0) })).not.toContain(1);
    for (const options of [{ temperature: 0 }, { rng: new Rng(0) }]) {
      await expect(collect(new FixedLM([0, Number.NaN]), [0], options)).rejects.toThrow(NumericsError);
    }
  });
});

describe('ending', () => {
  it('after maxNewTokens, 64 by default, or none', async () => {
    const model = new FixedLM([0, 1]);
    expect(await collect(model, [0], { temperature: 0 })).toHaveLength(64);
    expect(await collect(model, [0], { temperature: 0, maxNewTokens: 0 })).toEqual([]);
  });

  it('at a stop token, which is not given out', async () => {
    const model = llama().eval();
    const all = await collect(model, PROMPT, { maxNewTokens: 12, temperature: 0 });
    const stop = all[5];
    const stopped = await collect(model, PROMPT, { maxNewTokens: 12, temperature: 0, stopTokens: [99, stop] });
    expect(stopped).toEqual(all.slice(0, all.indexOf(stop)));
    model.dispose();
  });

  it("at the config's eos_token_id, unless stopTokens says otherwise", async () => {
    for (const eos_token_id of [1, [0, 1]]) {
      const model = new FixedLM([0, 1], { eos_token_id });
      expect(await collect(model, [0], { temperature: 0 })).toEqual([]);
      expect(await collect(model, [0], { temperature: 0, stopTokens: [], maxNewTokens: 2 })).toEqual([1, 1]);
    }
  });

  it('when the signal says so', async () => {
    const controller = new AbortController();
    const tokens: number[] = [];
    for await (const token of generate(new FixedLM([0, 1]), [0], { temperature: 0, signal: controller.signal })) {
      if (tokens.push(token) === 3) controller.abort();
    }
    expect(tokens).toHaveLength(3);
    expect(await collect(new FixedLM([0, 1]), [0], { temperature: 0, signal: AbortSignal.abort() })).toEqual([]);
  });
});

it.each<[GenerateOptions, string]>([
  [{}, 'rng is missing'],
  [{ temperature: -1 }, 'temperature is -1'],
  [{ temperature: Number.NaN }, 'temperature is NaN'],
  [{ temperature: Number.POSITIVE_INFINITY }, 'temperature is Infinity'],
  [{ topK: 0 }, 'topK is 0'],
  [{ topK: 1.5 }, 'topK is 1.5'],
  [{ topP: 0 }, 'topP is 0'],
  [{ topP: 1.1 }, 'topP is 1.1'],
  [{ temperature: 0, maxNewTokens: -1 }, 'maxNewTokens is -1'],
  [{ temperature: 0, maxNewTokens: 2.5 }, 'maxNewTokens is 2.5'],
])('refuses %j', async (options, message) => {
  const generating = collect(new FixedLM([0, 1]), [0], options);
  await expect(generating).rejects.toThrow(ConfigError);
  await expect(generating).rejects.toThrow(message);
});

it.each([
  [[], 'The prompt is empty'],
  [[0, 2], 'token 2; the vocabulary has 2'],
  [[-1], 'token -1'],
  [[0.5], 'token 0.5'],
])('refuses the prompt %j', async (prompt, message) => {
  const generating = collect(new FixedLM([0, 1]), prompt, { temperature: 0 });
  await expect(generating).rejects.toThrow(ConfigError);
  await expect(generating).rejects.toThrow(message);
});
