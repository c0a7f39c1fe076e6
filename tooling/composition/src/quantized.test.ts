import '@ashlar/backend-ort';
import { type CausalLM, createModel } from '@ashlar/models';
import { Linear } from '@ashlar/nn';
import { type AdapterHandle, attach, lofit, lora, type Method, ramt, svfit } from '@ashlar/peft';
import {
  abs,
  add,
  crossEntropy,
  disposeMap,
  div,
  lossAndGrads,
  max,
  mul,
  type Parametrization,
  Rng,
  round,
  setBackend,
  straightThrough,
  sub,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

/** Weights rounded to 15 levels for each output unit, as a quantized layer computes with them. */
const fourBit: Parametrization = {
  parametrize: (weight) =>
    tidy(() => {
      const step = div(max(abs(weight), 1, true), 7);
      return straightThrough(mul(round(div(weight, step)), step), weight);
    }),
};

const METHODS: Record<string, Method<AdapterHandle>> = {
  LoRA: lora({ r: 2, targetModules: 'all-linear' }),
  DoRA: lora({ r: 2, targetModules: 'all-linear', useDora: true }),
  SVFit: svfit({ r: 2, targetModules: 'all-linear' }),
  LoFiT: lofit({ initStd: 0 }),
  'R-AMT': ramt(),
};

const CONFIG = {
  model_type: 'llama',
  vocab_size: 17,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  max_position_embeddings: 32,
  initializer_range: 0.3,
};

beforeAll(() => setBackend('ort'));

describe.each(Object.entries(METHODS))('%s on layers with quantized weights', (name, method) => {
  const rng = new Rng('quantized');
  const ids = (): Tensor => rng.fork('ids').integers([2, 6], 0, 17);
  const distance = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);

  it('starts as the quantized model, and trains the adapter alone', () => {
    const model = createModel(CONFIG, { rng: rng.fork('model') }).eval() as CausalLM;
    const x = ids();
    const plain = model.apply(x) as Tensor;
    const quantized = [...model.namedModules()].filter(([, module]) => module instanceof Linear);
    for (const [, module] of quantized) (module as Linear).weight.parametrizations.push(fourBit);
    const start = model.apply(x) as Tensor;
    expect(distance(start, plain)).toBeGreaterThan(0.01);
    const handle = attach(model, method, { rng: rng.fork('adapter') });
    expect(distance(model.apply(x) as Tensor, start)).toBeLessThan(1e-5);
    const { grads } = lossAndGrads(() => crossEntropy(model.apply(x) as Tensor, x), model.trainableParameters());
    expect([...grads.keys()].sort()).toEqual([...handle.parameters().keys()].sort());
    const largest = tidy(() => Math.max(...[...grads.values()].map((grad) => max(abs(grad)).dataSync()[0])));
    expect(largest).toBeGreaterThan(1e-6);
    for (const [path, parameter] of handle.parameters()) {
      const noise = rng.fork(path).normal(parameter.shape as [number], { std: 0.1 });
      parameter.assign(tidy(() => add(parameter.stored, noise)));
    }
    const adapted = model.apply(x) as Tensor;
    expect(distance(adapted, start)).toBeGreaterThan(1e-3);
    // Merged into quantized weights an adapter would be rounded away.
    if (name !== 'LoFiT') expect(() => handle.merge()).toThrow(/parametrizations/);
    handle.unload();
    expect(distance(model.apply(x) as Tensor, start)).toBeLessThan(1e-6);
    disposeMap(grads);
    model.dispose();
  });
});
