import '@ashlar/backend-ort';
import {
  crossEntropy,
  disposeMap,
  lossAndGrads,
  memory,
  mul,
  Rng,
  setBackend,
  sub,
  type Tensor,
  tensor,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CausalLM } from './causal-lm.ts';
import { createModel } from './registry.ts';
import { GPT2, LLAMA } from './testing/checkpoint.ts';
import { idsOf } from './testing/logits.ts';

beforeAll(() => setBackend('ort'));

const ids = (): ReturnType<typeof tensor2d> => tensor2d([idsOf(8, 40), idsOf(8, 40, 9)], [2, 8], 'int32');
const next = (): ReturnType<typeof tensor2d> => tensor2d([idsOf(8, 40, 20), idsOf(8, 40, 30)], [2, 8], 'int32');

/** The loss of the fixed batch and its gradients. */
function step(model: CausalLM): ReturnType<typeof lossAndGrads> {
  const [x, y] = [ids(), next()];
  const result = lossAndGrads(() => crossEntropy(model.apply(x), y), model.trainableParameters());
  x.dispose();
  y.dispose();
  return result;
}

/** Plain gradient descent; the losses. */
function descend(model: CausalLM, steps: number, rate = 0.3): number[] {
  const parameters = model.trainableParameters();
  return Array.from({ length: steps }, () => {
    const { loss, grads } = step(model);
    for (const [name, parameter] of parameters) {
      parameter.assign(tidy(() => sub(parameter.stored, mul(grads.get(name) as Tensor, rate))));
    }
    disposeMap(grads);
    const value = loss.dataSync()[0];
    loss.dispose();
    return value;
  });
}

describe.each([
  ['llama', { ...LLAMA, attention_bias: true, mlp_bias: true, initializer_range: 0.2 }],
  ['llama, tied', { ...LLAMA, tie_word_embeddings: true, initializer_range: 0.2 }],
  ['gpt2', { ...GPT2, initializer_range: 0.2, resid_pdrop: 0, embd_pdrop: 0, attn_pdrop: 0 }],
  ['gpt2, untied', { ...GPT2, tie_word_embeddings: false, resid_pdrop: 0, embd_pdrop: 0, attn_pdrop: 0 }],
])('%s', (_, config) => {
  it('gradients reach every parameter', () => {
    const model = createModel(config, { rng: new Rng(0) });
    const { loss, grads } = step(model);
    for (const [name, grad] of grads) {
      const values = grad.dataSync<'float32'>();
      const scale = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      expect(scale, name).toBeGreaterThan(1e-7);
      expect(Number.isFinite(scale), name).toBe(true);
    }
    disposeMap(grads);
    loss.dispose();
    model.dispose();
    expect(memory().numTensors).toBe(0);
  });

  it('gradients agree with finite differences', () => {
    const model = createModel(config, { rng: new Rng(0) });
    const { loss, grads } = step(model);
    loss.dispose();
    const parameters = [...model.trainableParameters()];
    for (const at of [0, Math.floor(parameters.length / 2), parameters.length - 1]) {
      const [name, parameter] = parameters[at];
      const grad = grads.get(name)?.dataSync() as Float32Array;
      const steepest = grad.reduce((best, x, i) => (Math.abs(x) > Math.abs(grad[best]) ? i : best), 0);
      const original = parameter.stored.dataSync().slice() as Float32Array;
      const lossAt = (shift: number): number => {
        const values = original.slice();
        values[steepest] += shift;
        parameter.assign(tensor(values, parameter.shape));
        const moved = step(model);
        disposeMap(moved.grads);
        const value = moved.loss.dataSync()[0];
        moved.loss.dispose();
        return value;
      };
      const eps = 0.02;
      const slope = (8 * (lossAt(eps) - lossAt(-eps)) - (lossAt(2 * eps) - lossAt(-2 * eps))) / (12 * eps);
      lossAt(0);
      expect(Math.abs(slope - grad[steepest]), name).toBeLessThan(1e-3 * Math.max(0.1, Math.abs(grad[steepest])));
    }
    disposeMap(grads);
    model.dispose();
  });

  it('twenty steps lower the loss of a fixed batch, the same for the same seed', () => {
    const run = (seed: number): number[] => {
      const model = createModel(config, { rng: new Rng(seed) });
      const losses = descend(model, 20);
      model.dispose();
      return losses;
    };
    const losses = run(1);
    expect(losses[0]).toBeGreaterThan(Math.log(40) - 0.5);
    expect(losses[19]).toBeLessThan(0.7 * losses[0]);
    expect(run(1)).toEqual(losses);
    expect(run(2)).not.toEqual(losses);
  });
});

it('dropout repeats with the seed too', () => {
  const run = (): number[] => {
    const model = createModel({ ...GPT2, resid_pdrop: 0.3 }, { rng: new Rng(1) });
    const losses = descend(model, 3);
    model.dispose();
    return losses;
  };
  expect(run()).toEqual(run());
});

it.each(['llama', 'gpt2'])('a %s leaves no tensor over 100 steps', (model_type) => {
  const tiny = model_type === 'llama' ? { ...LLAMA, hidden_size: 8, intermediate_size: 8 } : { ...GPT2, n_embd: 8 };
  const model = createModel(tiny, { rng: new Rng(0) });
  descend(model, 1);
  const before = memory().numTensors;
  expect(descend(model, 100)).toHaveLength(100);
  expect(memory().numTensors).toBe(before);
  model.dispose();
  expect(memory().numTensors).toBe(0);
});
