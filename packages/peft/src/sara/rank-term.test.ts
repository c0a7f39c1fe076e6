import '@ashlar/backend-ort';
import {
  add,
  disposeMap,
  lossAndGrads,
  nuclearNorm,
  Rng,
  reshape,
  setBackend,
  type Tensor,
  type Tensor2D,
  tensor,
  tensor1d,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { attach } from '../method.ts';
import type { SaraConfig } from './config.ts';
import { disturb, Net, numbers } from './net.testing.ts';
import { sara } from './sara.ts';
import { scatterMasked } from './values.ts';

let net: Net;

beforeAll(async () => {
  await setBackend('ort');
});
beforeEach(() => {
  net = new Net().eval();
  vi.spyOn(console, 'warn').mockImplementation(() => {});
});
afterEach(() => vi.restoreAllMocks());

describe('the low-rank term', () => {
  const config: SaraConfig = { fraction: 0.4, include: ['q_proj', 'lm_head'], minMatrixSide: 3, minMaskEntries: 5 };

  it('has the value of the nuclear norm and its gradient by finite differences', () => {
    const handle = attach(net, sara({ ...config, lambdaRank: 0.5 }));
    const values = handle.values.get('q_proj.weight');
    if (values === undefined) throw new Error('No entries.');
    const norm = (): number =>
      tidy(() => {
        const only = scatterMasked(zeros([6, 8]), values.places.stored, values.sara_values.stored);
        return nuclearNorm(only as Tensor2D).dataSync()[0];
      });
    const prepared = handle.prepareRankTerm('q_proj.weight');
    expect(prepared).toEqual({ name: 'q_proj.weight', nuclearNorm: expect.closeTo(norm(), 4) });
    const { loss, grads } = lossAndGrads(() => handle.rankTerm(), handle.parameters());
    expect(loss.dataSync()[0]).toBeCloseTo(0.5 * norm(), 5);
    const own = numbers(values.sara_values.stored);
    const gradient = numbers(grads.get('q_proj.weight.parametrizations.0.sara_values') as Tensor);
    for (const i of [0, 3, own.length - 1]) {
      const at = (step: number): number => {
        values.sara_values.assign(tensor1d(own.map((value, j) => (i === j ? value + step : value))));
        return norm();
      };
      expect(gradient[i]).toBeCloseTo((0.5 * (at(1e-3) - at(-1e-3))) / 2e-3, 2);
    }
    // The other matrix has no part in it.
    const other = grads.get('lm_head.weight.parametrizations.0.sara_values') as Tensor;
    expect(numbers(other).every((value) => value === 0)).toBe(true);
    disposeMap(grads);
    loss.dispose();
  });

  it('leaves out directions without strength, and entries that are held', () => {
    net.q_proj.weight.assign(tidy(() => add(zeros([6, 8]), tensor(Array(8).fill(0.1)))));
    const handle = attach(net, sara({ ...config, threshold: 0.2, fraction: undefined, include: ['q_proj.weight'] }));
    const [values] = handle.values.values();
    handle.prepareRankTerm('q_proj.weight');
    // 0.1 everywhere is one direction: u v^T = 1 / sqrt(6 * 8).
    for (const value of numbers(values.rankGradient?.stored as Tensor)) expect(value).toBeCloseTo(1 / Math.sqrt(48), 5);
    const grown = numbers(values.sara_values.stored).map((value, i) => (i < 10 ? 0.3 : value));
    values.sara_values.assign(tensor1d(grown));
    handle.reselect();
    handle.prepareRankTerm('q_proj.weight');
    const gradient = numbers(values.rankGradient?.stored as Tensor);
    expect(gradient.map((value) => value === 0)).toEqual(grown.map((_, i) => i < 10));
    values.sara_values.assign(zeros([48]));
    values.reset();
    expect(handle.prepareRankTerm('q_proj.weight')?.nuclearNorm).toBe(0);
    expect(numbers(values.rankGradient?.stored as Tensor).every((value) => value === 0)).toBe(true);
  });

  it('draws among the matrices that are large enough, the same ones for the same steps', () => {
    const handle = attach(net, sara({ ...config, progressiveStep: 2 }));
    const drawn = (): (string | undefined)[] =>
      Array.from({ length: 20 }, (_, i) => handle.prepareRankTerm(new Rng(0).fork(i))?.name);
    expect(drawn()).toEqual(drawn());
    expect(new Set(drawn())).toEqual(new Set(['q_proj.weight', 'lm_head.weight']));
    expect(() => handle.prepareRankTerm('q_proj.bias')).toThrow(/'q_proj\.bias' is no matrix.*q_proj\.weight/);
    handle.unload();
    for (const none of [{ minMatrixSide: 6 }, { minMaskEntries: 1000 }, { lambdaRank: 0 }]) {
      const without = attach(net, sara({ ...config, ...none }));
      expect(without.prepareRankTerm(new Rng(0))).toBeUndefined();
      expect(tidy(() => without.rankTerm().dataSync()[0])).toBe(0);
      without.unload();
    }
  });

  it('follows the events of a run', () => {
    const handle = attach(net, sara({ ...config, progressiveStep: 2 }));
    const callback = handle.callback(new Rng(0));
    callback.onEvent({ type: 'start', step: 0 });
    expect(tidy(() => handle.rankTerm().dataSync()[0])).toBeGreaterThan(0);
    disturb(handle);
    const count = (): number => [...handle.values.values()].reduce((n, values) => n + values.trainingCount, 0);
    const all = count();
    callback.onEvent({ type: 'step', step: 1 });
    callback.onEvent({ type: 'evaluation', step: 2 });
    expect(count()).toBe(all);
    callback.onEvent({ type: 'step', step: 2 });
    expect(count()).toBeLessThan(all);
  });

  it('is in the report: the effective rank of the change', () => {
    const handle = attach(net, sara({ threshold: 1e9, include: ['q_proj'] }));
    const weight = handle.values.get('q_proj.weight');
    expect(handle.sparsityReport()).toEqual([
      { name: 'q_proj.weight', selected: 1, belowThreshold: 1, effectiveRank: 0 },
      { name: 'q_proj.bias', selected: 1, belowThreshold: 1 },
    ]);
    const change = (rows: number[][]) =>
      weight?.sara_values.assign(tidy(() => add(weight.sara_values.stored, reshape(tensor(rows), [-1]))));
    change(Array.from({ length: 6 }, (_, i) => Array.from({ length: 8 }, (_, j) => Number(i === j))));
    expect(handle.sparsityReport()[0].effectiveRank).toBeCloseTo(6, 3);
    handle.merge();
    expect(handle.sparsityReport()[0].effectiveRank).toBeCloseTo(6, 3);
  });
});
