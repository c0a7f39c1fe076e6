import '@ashlar/backend-ort';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  add,
  ConfigError,
  disposeMap,
  jit,
  lossAndGrads,
  memory,
  moduleState,
  NumericsError,
  Parameter,
  Rng,
  ShapeError,
  setBackend,
  square,
  stateDict,
  sum,
  type Tensor,
  tensor,
  tensor1d,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { gradCheck } from '@ashlar/tensor/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { loadAdapter } from '../load.ts';
import { lora } from '../lora/lora.ts';
import { attach } from '../method.ts';
import { type SaraConfig, saraLearningRate } from './config.ts';
import { bits, disturb, Net, numbers, outputs } from './net.testing.ts';
import { loadSara, type SaraModel, sara } from './sara.ts';
import { smallEntries } from './select.ts';
import { scatterMasked } from './values.ts';

let dir: string;
let ids: Tensor;
let net: Net;
const run = (): number[] => outputs(net);

beforeAll(async () => {
  await setBackend('ort');
  ids = tensor([1, 4, 4, 10, 0, 3], [2, 3], 'int32');
  dir = await mkdtemp(join(tmpdir(), 'sara-'));
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(() => {
  net = new Net().eval();
  vi.spyOn(console, 'warn').mockImplementation(() => {});
});
afterEach(() => vi.restoreAllMocks());

const difference = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]) / (1 + Math.abs(b[i]))));

const CONFIGS: SaraConfig[] = [
  { threshold: 0.05 },
  { fraction: 0.2 },
  { count: 1 },
  { fraction: 0.2, selection: 'largest' },
  { fraction: 0.2, selection: 'random', seed: 3 },
  { fraction: 0.3, include: ['q_proj', 'lm_head.weight'], exclude: ['bias'] },
];

describe('sara', () => {
  it.each(CONFIGS)('changes its entries alone, and merges, saves and loads to equal outputs (%o)', async (config) => {
    const before = run();
    const original = bits(net);
    const handle = attach(net, sara(config));
    expect(run()).toEqual(before);
    disturb(handle);
    const adapted = run();
    expect(difference(adapted, before)).toBeGreaterThan(1e-4);
    handle.merge({ safe: true });
    handle.merge();
    expect(handle.parameters().size).toBe(0);
    expect(run()).toEqual(adapted);
    for (const [name, values] of bits(net)) {
      const places = new Set(handle.values.get(name)?.places.stored.dataSync());
      const kept = (all: number[]): number[] => all.filter((_, i) => !places.has(i));
      expect(kept(values)).toEqual(kept(original.get(name) as number[]));
    }
    handle.unmerge();
    expect(run()).toEqual(adapted);
    handle.merge();
    handle.disable();
    expect(bits(net)).toEqual(original);
    expect(run()).toEqual(before);
    handle.enable();
    expect(run()).toEqual(adapted);
    const folder = join(dir, JSON.stringify(config).replace(/\W/g, ''));
    await handle.save(folder);
    handle.unload();
    expect(bits(net)).toEqual(original);
    expect(net.trainableParameters().size).toBe(net.parameters().length);
    const again = (await loadAdapter(net, folder)) as SaraModel;
    expect(run()).toEqual(adapted);
    expect(again.threshold).toBe(handle.threshold);
    again.mergeAndUnload({ safe: true });
    expect(run()).toEqual(adapted);
    expect(net.parameters().every(({ parametrizations }) => parametrizations.length === 0)).toBe(true);
  });

  it('has the gradients of finite differences, of first and second order, on every kind of layer', () => {
    const handle = attach(net, sara({ fraction: 0.2 }));
    for (const { sara_values } of handle.values.values()) {
      const at = (value: Tensor): Tensor => {
        const own = sara_values.exchange(value.clone());
        const y = square(net.apply(ids));
        sara_values.exchange(own);
        return y;
      };
      gradCheck(at, [sara_values.stored], { order: 1 });
    }
    const [places, rng] = [tensor1d([1, 2, 5], 'int32'), new Rng(2)];
    const base = rng.fork('base').normal([2, 3]);
    gradCheck((weight, values) => square(scatterMasked(weight, places, values)), [base, rng.normal([3])]);
    expect(() => scatterMasked(base, places, zeros([2]))).toThrow(ShapeError);
    expect(() => scatterMasked(base, tensor1d([1, 2, 5]), zeros([3]))).toThrow(/int32 places \[k\]/);
  });

  it('gives gradients and moments to the values alone, the same under jit, without leaks', () => {
    const train = (traced: boolean): { losses: number[]; weights: number[] } => {
      const model = new Net();
      const frozen = bits(model);
      const handle = attach(model, sara({ fraction: 0.3, minMatrixSide: 4, minMaskEntries: 2, lambdaRank: 0.01 }));
      const parameters = handle.parameters();
      expect(model.trainableParameters()).toEqual(parameters);
      const optimizer = new Optimizer(parameters, adamw({ learningRate: 0.02, weightDecay: 0.1 }));
      const size = [...parameters.values()].reduce((total, parameter) => total + parameter.size, 0);
      const moments = [...optimizer.stateDict().values()].reduce((total, leaf) => total + leaf.size, 0);
      expect(moments).toBe(2 * size + 3);
      const step = (x: Tensor): Tensor => {
        const { loss, grads } = lossAndGrads(() => add(sum(square(model.apply(x))), handle.rankTerm()), parameters);
        optimizer.step(grads);
        disposeMap(grads);
        return loss;
      };
      const faster = traced ? jit(step, { state: [moduleState(model), optimizer] }) : step;
      const losses: number[] = [];
      let before = 0;
      for (let i = 0; i < 30; i++) {
        if (i === 2) before = memory().numTensors;
        if (i === 10) handle.reselect();
        handle.prepareRankTerm(new Rng(i));
        const loss = faster(ids);
        losses.push(loss.dataSync()[0]);
        loss.dispose();
      }
      expect(memory().numTensors).toBe(before);
      if ('traces' in faster) expect(faster.traces).toBe(1);
      const weights = [...handle.values.values()].flatMap((values) => tidy(() => numbers(values.values())));
      optimizer.dispose();
      handle.unload();
      expect(bits(model)).toEqual(frozen);
      model.dispose();
      return { losses, weights };
    };
    const plain = train(false);
    expect(plain.losses[29]).toBeLessThan(plain.losses[0] * 0.7);
    expect(train(false)).toEqual(plain);
    const traced = train(true);
    expect(difference(traced.losses, plain.losses)).toBeLessThan(1e-4);
    expect(difference(traced.weights, plain.weights)).toBeLessThan(1e-4);
  });

  it('holds entries that have grown, against moments and weight decay, and lets the others go on', () => {
    const handle = attach(net, sara({ fraction: 0.3, include: ['q_proj.weight'], lambdaRank: 0 }));
    const values = handle.values.get('q_proj.weight');
    if (values === undefined) throw new Error('No entries.');
    const optimizer = new Optimizer(handle.parameters(), adamw({ learningRate: 0.02, weightDecay: 0.5 }));
    const step = (): void => {
      const { loss, grads } = lossAndGrads(() => sum(square(net.apply(ids))), handle.parameters());
      optimizer.step(grads);
      loss.dispose();
      disposeMap(grads);
    };
    for (let i = 0; i < 5; i++) step();
    const grown = tidy(() => numbers(values.values()));
    const below = grown.map((value) => Math.abs(value) < Math.fround(handle.threshold));
    expect(new Set(below).size).toBe(2);
    expect(values.belowThreshold).toBeCloseTo(below.filter(Boolean).length / below.length, 6);
    handle.reselect();
    expect(values.trainingCount).toBe(below.filter(Boolean).length);
    expect(tidy(() => numbers(values.values()))).toEqual(grown);
    for (let i = 0; i < 5; i++) step();
    const after = tidy(() => numbers(values.values()));
    expect(after.map((value, i) => value === grown[i])).toEqual(below.map((small) => !small));
    handle.reselect();
    const held = values.sara_held.stored.dataSync();
    for (const [i, small] of below.entries()) if (!small) expect(held[i]).toBe(grown[i]);
    optimizer.dispose();
  });

  it('trains what count, fraction and threshold say, ties together and an equal entry not', () => {
    expect(smallEntries(Float32Array.of(0.002, -0.002, 0.0019, 0, -0.1), 2e-3)).toEqual(Int32Array.of(2, 3));
    expect(smallEntries(Float32Array.of(0, 1), 0)).toEqual(Int32Array.of());
    const selected = (config: SaraConfig): number[] => {
      const handle = attach(net, sara({ include: ['q_proj'], ...config }));
      const places = [...handle.values].flatMap(([name, { places }]) =>
        numbers(places.stored).map((place) => place + (name.endsWith('bias') ? 48 : 0)),
      );
      handle.unload();
      return places;
    };
    const values = [3, -1, 1, 2, 5, 4, 7, 6];
    net.q_proj.weight.assign(tensor([...values, ...Array(40).fill(9)], [6, 8]));
    net.q_proj.bias?.assign(tensor([0, 0, 0, 8, 8, 8]));
    expect(selected({ threshold: 2 })).toEqual([1, 2, 48, 49, 50]);
    expect(selected({ count: 1 })).toEqual([48, 49, 50]);
    expect(selected({ count: 4 })).toEqual([1, 2, 48, 49, 50]);
    expect(selected({ fraction: 6 / 54 })).toEqual([1, 2, 3, 48, 49, 50]);
    expect(selected({ count: 2, include: ['q_proj.weight'], selection: 'largest' })).toHaveLength(40);
    const random = selected({ count: 6, selection: 'random', seed: 4 });
    expect(random).toHaveLength(6);
    expect(selected({ count: 6, selection: 'random', seed: 4 })).toEqual(random);
    expect(selected({ count: 6, selection: 'random', seed: 5 })).not.toEqual(random);
    expect(saraLearningRate(2e-3)).toBeCloseTo(4.97e-4, 6);
  });

  it('warns where most weights train', () => {
    attach(net, sara({ fraction: 0.4 })).unload();
    expect(console.warn).not.toHaveBeenCalled();
    attach(net, sara({ fraction: 0.6 })).unload();
    expect(console.warn).toHaveBeenCalledWith(
      expect.stringMatching(/^SaRA: 60% of the weights are below the threshold/),
    );
  });

  it('describes itself by layer', () => {
    const handle = attach(net, sara({ count: 3, include: 'q_proj|lm_head\\.bias', selection: 'random' }), {
      name: 'task',
    });
    const lines = handle.describe();
    expect(lines.reduce((total, { parameters }) => total + parameters, 0)).toBe(3);
    expect(lines[0]).toMatchObject({ path: 'q_proj', adapter: 'task', layer: 'Linear', scaling: 1 });
    const total = [...stateDict(new Net()).values()].reduce((n, { size }) => n + size, 0);
    expect(handle.trainableFraction).toBeCloseTo(3 / total, 10);
    handle.merge();
    expect(handle.trainableFraction).toBeCloseTo(3 / total, 10);
  });

  it('has one mask for a tied parameter, of which every name can be excluded', () => {
    Object.assign(net, { tied: net.q_proj.weight });
    const handle = attach(net, sara({ fraction: 0.2 }));
    expect(handle.values.has('q_proj.weight')).toBe(true);
    expect(handle.values.has('tied')).toBe(false);
    disturb(handle);
    const adapted = run();
    handle.merge();
    expect(run()).toEqual(adapted);
    handle.unload();
    expect(attach(net, sara({ fraction: 0.2, exclude: ['tied'] })).values.has('q_proj.weight')).toBe(false);
  });

  it('trains beside another adapter, on the same layers too', () => {
    const before = bits(net);
    const other = attach(net, lora({ r: 2, targetModules: ['q_proj'] }));
    const handle = attach(net, sara({ fraction: 0.2 }));
    expect([...handle.values.keys()].some((name) => name.includes('lora_'))).toBe(false);
    expect(handle.values.has('q_proj.weight')).toBe(true);
    expect(net.trainableParameters().size).toBe(other.parameters().size + handle.parameters().size);
    for (const parameter of other.parameters().values()) {
      parameter.assign(tidy(() => add(parameter.stored, 0.1)));
    }
    disturb(handle);
    const both = run();
    expect(() => other.merge()).toThrow(/parametrizations; merge these first/);
    handle.merge();
    other.merge();
    expect(difference(run(), both)).toBeLessThan(1e-5);
    expect(() => handle.unmerge()).toThrow(/'q_proj\.weight' has changed since SaRA was merged/);
    other.unload();
    handle.disable();
    // LoRA takes its delta out by arithmetic that rounds; SaRA's own places come back as they were.
    for (const [name, values] of bits(net)) if (!name.startsWith('q_proj')) expect(values).toEqual(before.get(name));
    handle.unload();
    const disjoint = attach(net, sara({ fraction: 0.2, include: ['conv'] }));
    const second = attach(net, sara({ fraction: 0.2, exclude: ['conv'] }));
    expect(() => attach(net, sara({ fraction: 0.2 }))).toThrow(/parametrization \(SaraValues\).*exclude/);
    second.unload();
    expect(net.trainableParameters()).toEqual(disjoint.parameters());
    disjoint.unload();
    expect(net.trainableParameters().size).toBe(net.parameters().length);
  });

  it('leaves no tensor behind', async () => {
    run();
    const folder = join(dir, 'leaks');
    const before = memory().numTensors;
    for (const config of CONFIGS) {
      const handle = attach(net, sara({ ...config, minMatrixSide: 0, minMaskEntries: 0 }));
      handle.prepareRankTerm(new Rng(0));
      handle.rankTerm().dispose();
      handle.reselect();
      handle.sparsityReport();
      handle.merge({ safe: true });
      handle.sparsityReport();
      await handle.save(folder);
      await handle.load(folder);
      handle.unload();
      (await loadSara(net, folder)).mergeAndUnload();
    }
    expect(() => attach(net, sara({ threshold: 1e-30 }))).toThrow(ConfigError);
    expect(memory().numTensors).toBe(before);
  });

  it.each([
    [{ threshold: 0 }, /threshold is 0; it must be a finite number above 0/],
    [{ threshold: Number.NaN }, /threshold is NaN/],
    [{ threshold: 1e300 }, /threshold is 1e\+300/],
    [{ fraction: 0 }, /fraction is 0; it must be in \(0, 1\]/],
    [{ fraction: 1.01 }, /fraction is 1\.01/],
    [{ count: 1.5 }, /count is 1\.5; it must be a positive integer/],
    [{ count: 1, threshold: 1 }, /threshold and count each/],
    [{ lambdaRank: -1 }, /lambdaRank is -1/],
    [{ progressiveStep: 0 }, /progressiveStep is 0; it must be a positive integer, or left out/],
    [{ minMatrixSide: -1 }, /minMatrixSide is -1/],
    [{ minMaskEntries: 0.5 }, /minMaskEntries is 0\.5/],
    [{ include: [1] }, /include is \[1\]; it must be a string or a list/],
    [{ exclude: 1 }, /exclude is 1/],
    [{ selection: 'middle' }, /selection is "middle"; it must be one of smallest, largest, random/],
    [{ seed: -1 }, /seed is -1/],
  ] as unknown as [SaraConfig, RegExp][])('refuses %o', (config, message) => {
    expect(() => sara(config)).toThrow(ConfigError);
    expect(() => sara(config)).toThrow(message);
  });

  it('refuses what the model does not allow, leaving it as it was', () => {
    const attached = (config: SaraConfig) => () => attach(net, sara(config));
    expect(attached({ include: ['q_prj'] })).toThrow(/include \["q_prj"\].*close: q_proj/);
    expect(attached({ count: 1e6 })).toThrow(/count is 1000000; the parameters that may train have \d+ entries/);
    expect(attached({ threshold: 1e-20, include: ['q_proj'] })).toThrow(/nothing would train.*fraction/);
    const packed = new Parameter(zeros([2], 'int32'));
    Object.assign(net, { packed });
    expect(attached({ fraction: 0.1 })).toThrow(/'packed' is int32; SaRA trains .* float32 weights.*'exclude'/);
    Object.assign(net, { packed: undefined });
    expect(net.trainableParameters().size).toBe(net.parameters().length);
    const handle = attach(net, sara({ fraction: 0.1 }));
    const [values] = handle.values.values();
    values.sara_values.assign(tidy(() => add(zeros([values.size]), Number.POSITIVE_INFINITY)));
    const before = bits(net);
    expect(() => handle.merge({ safe: true })).toThrow(NumericsError);
    expect(bits(net)).toEqual(before);
  });
});
