import '@ashlar/backend-ort';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Conv1D, Conv2d, Embedding, Linear } from '@ashlar/nn';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  add,
  ConfigError,
  disposeMap,
  FormatError,
  jit,
  lossAndGrads,
  Module,
  memory,
  moduleState,
  mul,
  NumericsError,
  Rng,
  relu,
  reshape,
  setBackend,
  square,
  stateDict,
  sum,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { gradCheck } from '@ashlar/tensor/testing';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { lora } from '../lora/lora.ts';
import { attach } from '../method.ts';
import { rankForEnergy, type SVFitConfig } from './config.ts';
import { SVFitLayer } from './layer.ts';
import { loadSVFit, type SVFitModel, svfit } from './svfit.ts';

class Net extends Module {
  embed: Embedding;
  q_proj: Linear;
  c_attn: Conv1D;
  conv: Conv2d;
  grouped: Conv2d;
  lm_head: Linear;

  constructor(rng = new Rng(7)) {
    super();
    this.embed = new Embedding(11, 8, { rng: rng.fork('embed') });
    this.q_proj = new Linear(8, 6, { rng: rng.fork('q') });
    this.c_attn = new Conv1D(6, 8, { rng: rng.fork('c') });
    this.conv = new Conv2d(1, 4, 3, { padding: 1, rng: rng.fork('conv') });
    this.grouped = new Conv2d(4, 6, 3, {
      groups: 2,
      stride: 2,
      padding: [1, 2],
      dilation: 2,
      rng: rng.fork('grouped'),
    });
    this.lm_head = new Linear(24, 5, { rng: rng.fork('head') });
  }

  forward(ids: Tensor): Tensor {
    const hidden = relu(this.c_attn.apply(this.q_proj.apply(this.embed.apply(ids))));
    const [batch, seq, dim] = hidden.shape;
    const image = this.grouped.apply(this.conv.apply(reshape(hidden, [batch, 1, seq, dim])));
    return this.lm_head.apply(reshape(image, [batch, 24]));
  }
}

const EVERYTHING = ['embed', 'q_proj', 'c_attn', 'conv', 'grouped', 'lm_head'];
let ids: Tensor;
let dir: string;
let net: Net;

beforeAll(async () => {
  await setBackend('ort');
  ids = tensor([1, 4, 4, 10, 0, 3], [2, 3], 'int32');
  dir = await mkdtemp(join(tmpdir(), 'svfit-'));
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(() => {
  net = new Net().eval();
});

const run = (): number[] => tidy(() => Array.from(net.apply(ids).dataSync()));
const numbers = (value: Tensor): number[] => Array.from(value.dataSync());
const difference = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]) / (1 + Math.abs(b[i]))));

/** Moves what trains, so that the adapter does something. */
function disturb(handle: SVFitModel): void {
  const rng = new Rng(1);
  for (const [name, parameter] of handle.parameters()) {
    parameter.assign(tidy(() => add(parameter.stored, rng.fork(name).normal(parameter.shape, { std: 0.6 }))));
  }
}

const CONFIGS: SVFitConfig[] = [
  {},
  { r: 2 },
  { energy: 0.9 },
  { r: 2, parametrization: 'scale' },
  { r: 2, svd: 'randomized' },
  { r: 2, selection: 'bottom' },
  { r: 2, selection: 'random', seed: 3 },
];

describe('svfit', () => {
  it.each(CONFIGS)(
    'changes nothing at the start, then merges, saves and loads to equal outputs (%o)',
    async (config) => {
      const before = run();
      const original = new Map([...stateDict(net)].map(([name, value]) => [name, numbers(value)]));
      const handle = attach(net, svfit({ targetModules: EVERYTHING, ...config }));
      expect(difference(run(), before)).toBe(0);
      disturb(handle);
      const adapted = run();
      expect(difference(adapted, before)).toBeGreaterThan(0.01);
      handle.merge({ safe: true });
      handle.merge();
      expect(difference(run(), adapted)).toBeLessThan(1e-5);
      handle.unmerge();
      expect(difference(run(), adapted)).toBeLessThan(1e-5);
      handle.merge();
      handle.disable();
      expect(difference(run(), before)).toBeLessThan(1e-5);
      handle.enable();
      expect(difference(run(), adapted)).toBeLessThan(1e-5);
      const folder = join(dir, JSON.stringify(config).replace(/\W/g, ''));
      await handle.save(folder);
      handle.unload();
      expect(net.conv).toBeInstanceOf(Conv2d);
      for (const [name, value] of stateDict(net)) {
        expect(difference(numbers(value), original.get(name) as number[])).toBeLessThan(1e-6);
      }
      expect(net.trainableParameters().size).toBe(net.parameters().length);
      const again = await loadSVFit(net, folder);
      expect(difference(run(), adapted)).toBeLessThan(1e-5);
      again.mergeAndUnload({ safe: true });
      expect(difference(run(), adapted)).toBeLessThan(1e-5);
      expect(net.q_proj).toBeInstanceOf(Linear);
    },
  );

  it('has the gradients of finite differences, on every kind of layer', () => {
    const handle = attach(net, svfit({ r: 2, targetModules: EVERYTHING }));
    const rng = new Rng(5);
    const inputs: Record<string, number[]> = {
      q_proj: [2, 8],
      c_attn: [2, 6],
      conv: [1, 1, 3, 4],
      grouped: [1, 4, 5, 5],
    };
    for (const [path, layer] of handle.layers) {
      const sigma = layer.trained[1];
      const x = path === 'embed' ? ids : rng.fork(path).normal((inputs[path] ?? [2, 24]) as [number]);
      const at = (value: Tensor): Tensor => {
        const own = sigma.exchange(value.clone());
        const y = layer.apply(x);
        sigma.exchange(own);
        return y;
      };
      gradCheck((value) => at(value), [sigma.stored], { order: 1 });
      if (path !== 'embed') gradCheck((input) => layer.apply(input), [x]);
    }
  });

  it('trains sigma and whole modules alone, the same under jit, without leaks', async () => {
    const train = (traced: boolean): { losses: number[]; weights: number[] } => {
      const model = new Net();
      const frozen = numbers(model.q_proj.weight.stored);
      const handle = attach(model, svfit({ r: 3, targetModules: ['q_proj', 'conv'], modulesToSave: ['lm_head'] }));
      expect([...handle.parameters().keys()]).toEqual([
        'q_proj.svfit_sigma',
        'conv.svfit_sigma',
        'lm_head.weight',
        'lm_head.bias',
      ]);
      const parameters = handle.parameters();
      const optimizer = new Optimizer(parameters, adamw({ learningRate: 0.02, weightDecay: 0 }));
      const step = (x: Tensor): Tensor => {
        const { loss, grads } = lossAndGrads(() => sum(square(model.apply(x))), parameters);
        optimizer.step(grads);
        disposeMap(grads);
        return loss;
      };
      const faster = traced ? jit(step, { state: [moduleState(model), optimizer] }) : step;
      const losses: number[] = [];
      let before = 0;
      for (let i = 0; i < 30; i++) {
        if (i === 2) before = memory().numTensors;
        const loss = faster(ids);
        losses.push(loss.dataSync()[0]);
        loss.dispose();
      }
      expect(memory().numTensors).toBe(before);
      const weights = [...parameters.values()].flatMap(({ stored }) => numbers(stored));
      expect(numbers(model.q_proj.weight?.stored ?? handle.layers.get('q_proj')?.base_layer.weight.stored)).toEqual(
        frozen,
      );
      optimizer.dispose();
      handle.unload();
      model.dispose();
      return { losses, weights };
    };
    const plain = train(false);
    expect(plain.losses[29]).toBeLessThan(plain.losses[0] * 0.5);
    expect(train(false)).toEqual(plain);
    expect(difference(train(true).losses, plain.losses)).toBeLessThan(1e-4);
  });

  it('describes itself, and takes the rank of a layer from a pattern', () => {
    const handle = attach(net, svfit({ r: 2, targetModules: ['q_proj', 'c_attn'], rankPattern: { c_attn: 5 } }), {
      name: 'task',
    });
    expect(handle.describe()).toEqual([
      { path: 'q_proj', adapter: 'task', layer: 'Linear', r: 2, scaling: 1, parameters: 2, baseParameters: 48 },
      { path: 'c_attn', adapter: 'task', layer: 'Conv1D', r: 5, scaling: 1, parameters: 5, baseParameters: 48 },
    ]);
    expect(handle.trainableFraction).toBeCloseTo(7 / net.parameters().reduce((n, { size }) => n + size, 0), 8);
  });

  it('cuts the rank where the weight has not that many directions, with a warning', () => {
    const { weight } = net.q_proj;
    weight.assign(tidy(() => mul(reshape(tensor([1, 2, 3, 4, 5, 6]), [6, 1]), new Rng(1).normal([1, 8]))));
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    const handle = attach(net, svfit({ targetModules: ['q_proj'] }));
    expect(warn).toHaveBeenCalledWith("SVFit: 'q_proj' has rank 1; r is 1 there, not 6.");
    warn.mockRestore();
    expect(handle.describe()[0].r).toBe(1);
  });

  it('keeps decompositions on disk by weight, and makes damaged ones again', async () => {
    const cacheDir = join(dir, 'cache');
    const config: SVFitConfig = { r: 2, targetModules: ['q_proj', 'conv'], cacheDir };
    const outputs = (): number[] => {
      const handle = attach(net, svfit(config));
      disturb(handle);
      const adapted = run();
      handle.unload();
      return adapted;
    };
    const first = outputs();
    const files = await readdir(cacheDir);
    expect(files).toHaveLength(2);
    expect(outputs()).toEqual(first);
    for (const file of files) await truncate(join(cacheDir, file), 50);
    expect(outputs()).toEqual(first);
    for (const file of files) {
      const bytes = await readFile(join(cacheDir, file));
      bytes[20] ^= 255;
      await writeFile(join(cacheDir, file), bytes);
    }
    expect(outputs()).toEqual(first);
    net.q_proj.weight.assign(tidy(() => mul(net.q_proj.weight.stored, 1.5)));
    outputs();
    expect(await readdir(cacheDir)).toHaveLength(3);
    const blocked = svfit({ ...config, cacheDir: join(cacheDir, files[0]) });
    expect(() => attach(net, blocked)).toThrow(/cacheDir '.*' cannot be written/);
  });

  it('trains beside adapters of another kind, and refuses to share a layer', () => {
    const handle = attach(net, svfit({ r: 2, targetModules: ['q_proj'] }));
    const other = attach(net, lora({ r: 2, targetModules: ['c_attn', 'lm_head'] }));
    expect([...net.trainableParameters().keys()].map((name) => name.split('.')[0])).toEqual([
      'q_proj',
      'c_attn',
      'c_attn',
      'lm_head',
      'lm_head',
    ]);
    expect([...handle.parameters().keys()]).toEqual(['q_proj.svfit_sigma']);
    expect(other.parameters().size).toBe(4);
    disturb(handle);
    const both = run();
    handle.merge();
    other.merge();
    expect(difference(run(), both)).toBeLessThan(1e-5);
    other.unmerge();
    expect(() => other.add('second', { targetModules: ['q_proj'] })).toThrow(
      /'q_proj' carries another adapter \(SVFitLayer\).*excludeModules/,
    );
    expect(() => attach(net, svfit({ r: 2, targetModules: 'all-linear' }))).toThrow(/carries another adapter/);
    handle.unload();
    expect([...net.trainableParameters().keys()].every((name) => name.includes('lora_'))).toBe(true);
    other.unload();
    expect(net.trainableParameters().size).toBe(net.parameters().length);
  });

  it('leaves no tensor behind', async () => {
    run();
    const folder = join(dir, 'leaks');
    const before = memory().numTensors;
    for (const config of CONFIGS) {
      const handle = attach(net, svfit({ targetModules: EVERYTHING, modulesToSave: [], ...config }));
      handle.merge();
      await handle.save(folder);
      await handle.load(folder);
      handle.unload();
      (await loadSVFit(net, folder)).unload();
    }
    net.conv.weight.assign(zeros(net.conv.weight.shape));
    expect(() => attach(net, svfit({ targetModules: ['q_proj', 'conv'] }))).toThrow(/'conv' is zero/);
    expect(memory().numTensors).toBe(before);
  });

  it('takes only files made for this model', async () => {
    const folder = join(dir, 'foreign');
    const handle = attach(net, svfit({ r: 2, targetModules: ['q_proj'] }));
    await handle.save(folder, { baseModel: 'base' });
    const path = join(folder, 'adapter_config.json');
    const json = JSON.parse(await readFile(path, 'utf8'));
    expect(json).toMatchObject({
      peft_type: 'SVFIT',
      base_model_name_or_path: 'base',
      r: 2,
      target_modules: ['q_proj'],
    });
    handle.unload();
    const other = new Net(new Rng(8));
    await expect(loadSVFit(other, folder)).rejects.toThrow(/made for other base weights: .*q_proj\.svfit_s/);
    expect(other.q_proj).toBeInstanceOf(Linear);
    const wider = attach(net, svfit({ r: 3, targetModules: ['q_proj'] }));
    await expect(wider.load(folder)).rejects.toThrow(/q_proj\.svfit_sigma is \[2\], not \[3\]/);
    wider.unload();
    for (const [change, error] of [
      [{ peft_type: 'LORA' }, FormatError],
      [{ target_modules: 7 }, ConfigError],
      [{ r: -1 }, ConfigError],
      [{ rank_pattern: [1] }, ConfigError],
      [{ selection: 'middle' }, ConfigError],
      [{ surprise: 1 }, FormatError],
    ] as const) {
      await writeFile(path, JSON.stringify({ ...json, ...change }));
      const failure = loadSVFit(net, folder);
      await expect(failure).rejects.toThrow(error);
      await expect(failure).rejects.toThrow('adapter_config.json');
    }
  });

  it.each([
    [{ r: 0 }, /r is 0; it must be a positive integer/],
    [{ r: 1.5 }, /r is 1\.5/],
    [{ energy: 0 }, /energy is 0; it must be in \(0, 1\]/],
    [{ energy: 1.1 }, /energy is 1\.1/],
    [{ r: 2, energy: 0.9 }, /r and energy both/],
    [{ energy: 0.9, svd: 'randomized' }, /svd is "randomized"/],
    [{ selection: 'left' }, /selection is "left"; it must be one of top, bottom, random/],
    [{ energyKind: 'cubic' }, /energyKind is "cubic"/],
    [{ parametrization: 'log' }, /parametrization is "log"/],
    [{ seed: 0.5 }, /seed is 0\.5/],
    [{ rankPattern: { a: 0 } }, /rankPattern\['a'\] is 0/],
  ] as [SVFitConfig, RegExp][])('refuses %o', (config, message) => {
    expect(() => svfit(config)).toThrow(ConfigError);
    expect(() => svfit(config)).toThrow(message);
  });

  it('refuses what a layer does not allow, leaving the model as it was', () => {
    const attached = (config: SVFitConfig) => () =>
      attach(net, svfit({ targetModules: ['conv', 'q_proj'], ...config }));
    expect(attached({ r: 6 })).toThrow(/r is 6; 'conv' has min\(out, in\) = 4/);
    expect(attached({ targetModules: ['q_prj'] })).toThrow(/closest: q_proj/);
    net.q_proj.weight.assign(tensor([Number.NaN, ...Array(47).fill(1)], [6, 8]));
    expect(attached({})).toThrow(NumericsError);
    expect([...net.namedModules()].some(([, module]) => module instanceof SVFitLayer)).toBe(false);
    expect(net.trainableParameters().size).toBe(net.parameters().length);
  });

  it('refuses to merge a tied weight', () => {
    Object.assign(net, { tied: net.q_proj.weight });
    const handle = attach(net, svfit({ r: 1, targetModules: ['q_proj'] }));
    expect(() => handle.merge()).toThrow(/'q_proj' is tied/);
  });
});

describe('rankForEnergy', () => {
  it('finds the fewest values that hold the share', () => {
    expect(rankForEnergy([3, 2, 1], 9 / 14)).toBe(1);
    expect(rankForEnergy([3, 2, 1], 0.65)).toBe(2);
    expect(rankForEnergy([3, 2, 1], 0.65, 'linear')).toBe(2);
    expect(rankForEnergy([3, 2, 0], 1)).toBe(2);
    expect(() => rankForEnergy([0, 0], 0.5)).toThrow(ConfigError);
    expect(() => rankForEnergy([1], 2)).toThrow(/energy is 2/);
  });
});
