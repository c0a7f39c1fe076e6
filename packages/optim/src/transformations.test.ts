import '@tensorflow/tfjs-backend-cpu';
import {
  ConfigError,
  type GradientTransformation,
  memory,
  Parameter,
  setBackend,
  type Tensor,
  tensor,
  tidy,
} from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  accumulate,
  adam,
  addDecayedWeights,
  chain,
  clipByGlobalNorm,
  globalNorm,
  identity,
  masked,
  Optimizer,
  partition,
  scale,
  scaleBySchedule,
  sgd,
  tabulated,
  trace,
} from './index.ts';

beforeAll(() => setBackend('cpu'));

type Values = Record<string, number[]>;
const tensors = (values: Values): Map<string, Tensor> =>
  new Map(Object.entries(values).map(([name, value]) => [name, tensor(value)]));
const numbers = (map: ReadonlyMap<string, Tensor>): Values =>
  Object.fromEntries([...map].map(([name, t]) => [name, Array.from(t.dataSync())]));

/** The updates for each of `gradients`, the state handed on. */
function updates(transformation: GradientTransformation, parameters: Values, ...gradients: Values[]): Values[] {
  const before = memory().numTensors;
  const result: Values[] = [];
  tidy(() => {
    let state = transformation.init(tensors(parameters));
    for (const g of gradients) {
      const step = transformation.update(tensors(g), state, tensors(parameters));
      result.push(numbers(step.updates));
      state = step.state;
    }
  });
  expect(memory().numTensors).toBe(before);
  return result;
}

describe('links', () => {
  it('chain applies them in order and keeps their states apart', () => {
    const link = chain(scale(2), trace(0.5), trace(0.5), scale(-1));
    expect(updates(link, { a: [0] }, { a: [1] }, { a: [0] })).toEqual([{ a: [-2] }, { a: [-2] }]);
    expect(updates(chain(), { a: [0] }, { a: [1] })).toEqual([{ a: [1] }]);
    expect(updates(identity(), { a: [0] }, { a: [1] })).toEqual([{ a: [1] }]);
  });

  it('clipByGlobalNorm scales all by the norm of all, and leaves small and zero gradients alone', () => {
    const zero = { a: [0, 0], b: [0] };
    const [big, small, none] = updates(
      clipByGlobalNorm(6.5),
      zero,
      { a: [3, 4], b: [12] },
      { a: [3, 4], b: [0] },
      zero,
    );
    expect(big).toEqual({ a: [1.5, 2], b: [6] });
    expect(small).toEqual({ a: [3, 4], b: [0] });
    expect(none).toEqual(zero);
    expect(() => clipByGlobalNorm(0)).toThrow('maxNorm is 0; it must be a finite number > 0.');
  });

  it('globalNorm is that of all values together', () => {
    tidy(() => {
      expect(globalNorm(tensors({ a: [3, 4], b: [12] })).dataSync()[0]).toBe(13);
      expect(globalNorm(new Map()).dataSync()[0]).toBe(0);
    });
  });

  it('addDecayedWeights decays what the mask names', () => {
    const link = addDecayedWeights(0.5, { mask: (name) => name !== 'bias' });
    expect(updates(link, { weight: [2], bias: [2] }, { weight: [1], bias: [1] })).toEqual([{ weight: [2], bias: [1] }]);
  });

  it('scaleBySchedule counts from 0', () => {
    const link = scaleBySchedule(tabulated((step) => step + 1, 9));
    expect(updates(link, { a: [0] }, { a: [1] }, { a: [1] }, { a: [1] })).toEqual([{ a: [1] }, { a: [2] }, { a: [3] }]);
  });

  it('accumulate updates by the mean of every k gradients, and only then', () => {
    const link = accumulate(sgd({ learningRate: 1, momentum: 0.5 }), 2);
    expect(updates(link, { a: [0] }, { a: [1] }, { a: [3] }, { a: [0] }, { a: [4] })).toEqual([
      { a: [0] },
      { a: [-2] },
      { a: [0] },
      { a: [-3] },
    ]);
  });

  it('accumulate does not let a bad intermediate result through', () => {
    const link = accumulate(adam({ learningRate: 1, eps: 0 }), 2);
    const [first, second] = updates(link, { a: [0] }, { a: [0] }, { a: [4] });
    expect(first).toEqual({ a: [0] });
    expect(second.a[0]).toBeCloseTo(-1, 5);
  });

  it('partition gives each group its own transformation, in the order that came', () => {
    const link = partition({ fast: scale(-10), slow: trace(0.5) }, (name) =>
      name.includes('lora_B') ? 'fast' : 'slow',
    );
    const [, second] = updates(
      link,
      { x: [0], lora_B: [0], y: [0] },
      ...Array(2).fill({ x: [1], lora_B: [1], y: [2] }),
    );
    expect(second).toEqual({ x: [1.5], lora_B: [-10], y: [3] });
    expect(Object.keys(second)).toEqual(['x', 'lora_B', 'y']);
    const wrong = partition({ fast: scale(1) }, () => 'slow');
    expect(() => updates(wrong, { x: [0] }, { x: [0] })).toThrow(ConfigError);
    expect(() => updates(wrong, { x: [0] }, { x: [0] })).toThrow(/'x' the label 'slow'; it must be one of fast/);
  });

  it('masked leaves the others as they are', () => {
    const link = masked(scale(3), (_, parameter) => parameter.size > 1);
    expect(updates(link, { a: [0, 0], b: [0] }, { a: [1, 1], b: [1] })).toEqual([{ a: [3, 3], b: [1] }]);
  });
});

describe('Optimizer', () => {
  const model = (): Map<string, Parameter> =>
    new Map([
      ['h.0.weight', new Parameter(tensor([1, 2]))],
      ['h.0.bias', new Parameter(tensor([3]))],
    ]);
  const gradients = (): Map<string, Tensor> => tensors({ 'h.0.weight': [0.3, -0.4], 'h.0.bias': [0.5] });

  it('names its state by path and continues bit for bit from a saved one', async () => {
    const before = memory().numTensors;
    const make = (): GradientTransformation =>
      chain(clipByGlobalNorm(0.5), adam({ learningRate: tabulated((step) => 0.1 / (1 + step), 20) }));
    const [a, b] = [model(), model()];
    const g = gradients();
    const first = new Optimizer(a, make());
    expect([...first.stateDict().keys()]).toEqual([
      '1.1.count',
      '1.1.mu.h.0.weight',
      '1.1.mu.h.0.bias',
      '1.1.nu.h.0.weight',
      '1.1.nu.h.0.bias',
      '1.2.count',
      '1.2.learningRate',
    ]);
    expect(await first.learningRate()).toBeCloseTo(0.1, 6);
    for (let i = 0; i < 5; i++) first.step(g);
    const second = new Optimizer(b, make());
    second.loadStateDict(first.stateDict());
    for (const [name, parameter] of b) parameter.assign((a.get(name) as Parameter).stored.clone());
    for (let i = 0; i < 5; i++) {
      first.step(g);
      second.step(g);
    }
    expect(await first.learningRate()).toBeCloseTo(0.01, 7);
    for (const [name, parameter] of b) {
      expect(parameter.stored.dataSync()).toEqual((a.get(name) as Parameter).stored.dataSync());
    }
    first.dispose();
    second.dispose();
    for (const parameter of [...a.values(), ...b.values()]) parameter.dispose();
    for (const gradient of g.values()) gradient.dispose();
    expect(memory().numTensors).toBe(before);
  });

  it('survives transformations whose state shares tensors with what they were given', () => {
    const previous: GradientTransformation<{ readonly last: Map<string, Tensor> }> = {
      init: (parameters) => ({ last: new Map(parameters) }),
      update: (g, state) => ({ updates: state.last, state: { last: new Map(g) } }),
    };
    const parameters = new Map([['a', new Parameter(tensor([1]))]]);
    const optimizer = new Optimizer(parameters, previous);
    for (const value of [10, 100]) {
      const g = tensors({ a: [value] });
      optimizer.step(g);
      g.get('a')?.dispose();
    }
    expect(parameters.get('a')?.stored.dataSync()[0]).toBe(12);
    optimizer.dispose();
  });

  it('refuses frozen parameters, missing gradients and states that do not fit', () => {
    const parameters = model();
    const optimizer = new Optimizer(parameters, adam({ learningRate: 1 }));
    expect(() => optimizer.step(new Map())).toThrow('No gradient for h.0.weight, h.0.bias.');
    const state = new Map(optimizer.stateDict());
    state.delete('1.count');
    state.set('1.cuont', tensor(0));
    state.set('1.mu.h.0.bias', tensor([1, 2]));
    expect(() => optimizer.loadStateDict(state, { source: 'optimizer.safetensors' })).toThrow(
      /optimizer\.safetensors does not fit\.\n {2}missing: 1\.count\n {2}wrong shape or type: 1\.mu\.h\.0\.bias is float32 \[2\], not float32 \[1\]\n {2}unexpected: 1\.cuont \(did you mean 1\.count\?\)/,
    );
    (parameters.get('h.0.bias') as Parameter).requiresGrad = false;
    expect(() => new Optimizer(parameters, adam({ learningRate: 1 }))).toThrow("Parameter 'h.0.bias' is frozen");
  });
});
