import '@ashlar/backend-ort';
import { Dropout, Linear, Sequential } from '@ashlar/nn';
import {
  ConfigError,
  crossEntropy,
  disposeMap,
  jit,
  lossAndGrads,
  memory,
  moduleState,
  mul,
  type Parameter,
  Rng,
  setBackend,
  square,
  sum,
  type Tensor,
  type TensorMap,
  tensor1d,
} from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  type GladGradients,
  type GladOptions,
  gladGradients,
  regularizeGradient,
  sharpnessPerturbation,
} from './glad.ts';

beforeAll(() => setBackend('cpu'));

const values = (tensors: TensorMap): number[] => [...tensors.values()].flatMap((t) => Array.from(t.dataSync()));
const map = (...list: number[][]): Map<string, Tensor> => new Map(list.map((row, i) => [`p${i}`, tensor1d(row)]));

function release({ grads, loss, perturbedLoss, cosine, gradNorm }: GladGradients): void {
  disposeMap(grads);
  for (const tensor of [loss, perturbedLoss, cosine, gradNorm]) tensor.dispose();
}

/** A classifier with its batch; with dropout where `p` is above 0. */
function task(p = 0): { model: Sequential; loss: () => Tensor; parameters: Map<string, Parameter>; rng: Rng } {
  const rng = new Rng('glad');
  const dropout = new Dropout(p, rng.fork('dropout'));
  const model = new Sequential([
    new Linear(5, 8, { rng: rng.fork('a') }),
    dropout,
    new Linear(8, 3, { rng: rng.fork('b') }),
  ]);
  const [x, labels] = [rng.fork('x').normal([6, 5]), rng.fork('y').integers([6], 0, 3)];
  const loss = (): Tensor => crossEntropy(model.apply(x) as Tensor, labels);
  return { model, loss, parameters: model.trainableParameters(), rng: dropout.rng };
}

/** The loss `sum (w - 1)^2` of one parameter, whose gradients are known. */
function parabola(): { loss: () => Tensor; parameters: Map<string, Parameter> } {
  const { parameters } = task();
  const [name, parameter] = [...parameters][0];
  return { loss: () => sum(square(parameter.value)), parameters: new Map([[name, parameter]]) };
}

describe('gladGradients', () => {
  it('takes the reference uphill: of sum w^2 it is 2 w (1 + rho / |w|)', () => {
    const { loss, parameters } = parabola();
    const [parameter] = parameters.values();
    const w = Array.from(parameter.stored.dataSync());
    const length = Math.hypot(...w);
    const result = gladGradients(loss, parameters, { rho: 0.3, lambda: 1 });
    // The reference points where the gradient does, so the direction stays.
    for (const [i, g] of values(result.grads).entries()) expect(g).toBeCloseTo(2 * w[i], 4);
    expect(result.cosine.dataSync()[0]).toBeCloseTo(1, 5);
    expect(result.gradNorm.dataSync()[0]).toBeCloseTo(2 * length, 4);
    expect(result.perturbedLoss.dataSync()[0]).toBeCloseTo((length + 0.3) ** 2, 3);
    release(result);
  });

  it.each([{ lambda: 0 }, { rho: 0 }])('with %j gives the plain gradients, bit for bit', (options) => {
    const { loss, parameters } = task();
    const plain = lossAndGrads(loss, parameters);
    const result = gladGradients(loss, parameters, options);
    expect(values(result.grads)).toEqual(values(plain.grads));
    disposeMap(plain.grads);
    plain.loss.dispose();
    release(result);
  });

  it('puts the very parameters back and leaks nothing, also where the loss throws', () => {
    const { loss, parameters } = task();
    const stored = [...parameters.values()].map((parameter) => parameter.stored);
    const before = memory().numTensors;
    release(gladGradients(loss, parameters));
    let calls = 0;
    const failing = (): Tensor => {
      if (++calls === 2) throw new Error('uphill');
      return loss();
    };
    expect(() => gladGradients(failing, parameters)).toThrow('uphill');
    expect([...parameters.values()].map((parameter) => parameter.stored)).toEqual(stored);
    expect(memory().numTensors).toBe(before);
  });

  it('shows both passes the same dropout mask where it is given the generator', () => {
    const { loss, parameters, rng } = task(0.5);
    const start = rng.state();
    const once = gladGradients(loss, parameters, { rho: 1e-9, lambda: 1, rngs: [rng] });
    const after = rng.state();
    expect(once.cosine.dataSync()[0]).toBeCloseTo(1, 5);
    expect(once.perturbedLoss.dataSync()[0]).toBe(once.loss.dataSync()[0]);
    expect(after.counter).toBeGreaterThan(start.counter);
    release(once);
    rng.restore(start);
    const blind = gladGradients(loss, parameters, { rho: 1e-9, lambda: 1 });
    expect(blind.cosine.dataSync()[0]).toBeLessThan(0.999);
    release(blind);
  });

  it('keeps the plain gradient where the loss uphill is not finite', () => {
    const { parameters, loss } = parabola();
    let calls = 0;
    const infinite = (): Tensor => mul(loss(), ++calls === 2 ? Number.POSITIVE_INFINITY : 1);
    const plain = lossAndGrads(loss, parameters);
    const result = gladGradients(infinite, parameters, { rho: 0.1, lambda: 1 });
    expect(values(result.grads)).toEqual(values(plain.grads));
    disposeMap(plain.grads);
    plain.loss.dispose();
    release(result);
  });

  it('is the same under jit', async () => {
    await setBackend('ort');
    const { model, loss, parameters } = task();
    const options: GladOptions = { rho: 0.2, rule: 'decompose', scope: 'tensor' };
    const eager = gladGradients(loss, parameters, options);
    const jitted = jit(() => gladGradients(loss, parameters, options), { state: [moduleState(model)] });
    for (let call = 0; call < 2; call++) {
      const result = jitted();
      for (const [i, g] of values(result.grads).entries()) expect(g).toBeCloseTo(values(eager.grads)[i], 5);
      release(result);
    }
    expect(jitted.traces).toBe(1);
    jitted.dispose();
    release(eager);
    await setBackend('cpu');
  });

  it('refuses options out of range', () => {
    const { loss, parameters } = task();
    for (const options of [{ rho: -1 }, { rho: Number.NaN }, { lambda: 1.1 }, { lambda: -0.1 }]) {
      expect(() => gladGradients(loss, parameters, options)).toThrow(ConfigError);
    }
    expect(() => gladGradients(loss, parameters, { rule: 'mix' as 'blend' })).toThrow(/rule is 'mix'.*blend/);
    expect(() => gladGradients(loss, parameters, { scope: 'layer' as 'global' })).toThrow(/scope is 'layer'/);
    expect(() => sharpnessPerturbation(new Map(), -1)).toThrow(/rho is -1/);
  });
});

describe('regularizeGradient', () => {
  it('leaves no tensor but its result', () => {
    const [g, r] = [map([1, 2], [3]), map([1, -1], [2])];
    const before = memory().numTensors;
    for (const rule of ['blend', 'decompose', 'project'] as const) {
      for (const scope of ['global', 'tensor'] as const) disposeMap(regularizeGradient(g, r, { rule, scope }));
    }
    expect(memory().numTensors).toBe(before);
    disposeMap(g);
    disposeMap(r);
  });

  it('project takes away the conflict alone', () => {
    const [g, r] = [map([1, -1]), map([0, 1])];
    const projected = regularizeGradient(g, r, { rule: 'project' });
    expect(values(projected)).toEqual([1, 0]);
    for (const each of [g, r, projected]) disposeMap(each);
  });
});
