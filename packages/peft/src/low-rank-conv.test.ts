import '@ashlar/backend-ort';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Conv2d, Linear, SynthesisLayer, ToRGBLayer } from '@ashlar/nn';
import {
  add,
  ConfigError,
  clone,
  FormatError,
  jit,
  Module,
  memory,
  moduleState,
  NumericsError,
  Rng,
  reshape,
  setBackend,
  stateDict,
  type Tensor,
  tensor,
  tidy,
} from '@ashlar/tensor';
import { gradCheck } from '@ashlar/tensor/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadAdapter } from './load.ts';
import { lora } from './lora/lora.ts';
import { type LowRankConvConfig, type LowRankConvModel, loadLowRankConv, lowRankConv } from './low-rank-conv.ts';
import { attach } from './method.ts';

/** A small generator, and a head on its pictures. */
class Net extends Module {
  conv1: SynthesisLayer;
  conv0: SynthesisLayer;
  torgb: ToRGBLayer;
  conv: Conv2d;
  head: Linear;

  constructor(rng = new Rng(7)) {
    super();
    this.conv1 = new SynthesisLayer(2, 4, 3, 4, { rng: rng.fork('conv1') });
    this.conv0 = new SynthesisLayer(4, 4, 3, 8, { upsample: true, rng: rng.fork('conv0') });
    this.torgb = new ToRGBLayer(4, 3, 3, { rng: rng.fork('torgb') });
    this.conv = new Conv2d(3, 2, 3, { stride: 2, padding: 1, rng: rng.fork('conv') });
    this.head = new Linear(32, 5, { rng: rng.fork('head') });
  }

  forward(x: Tensor): Tensor {
    const w = tensor([[0.5, -1, 0.3]]);
    const image = this.torgb.apply(this.conv0.apply(this.conv1.apply(x, w), w), w);
    return this.head.apply(reshape(this.conv.apply(image), [1, 32]));
  }
}

let x: Tensor;
let dir: string;
let net: Net;

beforeAll(async () => {
  await setBackend('ort');
  x = new Rng(3).normal([1, 2, 4, 4]);
  dir = await mkdtemp(join(tmpdir(), 'low-rank-conv-'));
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(() => {
  net = new Net();
});

const run = (): number[] => tidy(() => Array.from(net.apply(x).dataSync()));
const numbers = (): number[][] => [...stateDict(net).values()].map((value) => Array.from(value.dataSync()));
const difference = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]) / (1 + Math.abs(b[i]))));

/** Moves what trains, so that the adapter does something. */
function disturb(handle: LowRankConvModel): void {
  const rng = new Rng(1);
  for (const [name, parameter] of handle.parameters()) {
    parameter.assign(tidy(() => add(parameter.stored, rng.fork(name).normal(parameter.shape, { std: 0.3 }))));
  }
}

describe('lowRankConv', () => {
  it.each([{}, { r: 2, loraAlpha: 3 }, { trainBiases: false }, { targetModules: ['conv0.affine', 'conv'] }])(
    'changes nothing at the start, then merges, saves and loads to equal outputs (%o)',
    async (config: LowRankConvConfig) => {
      const [before, weights] = [run(), numbers()];
      const handle = attach(net, lowRankConv(config));
      expect(run()).toEqual(before);
      disturb(handle);
      const adapted = run();
      expect(difference(adapted, before)).toBeGreaterThan(0.01);
      handle.merge({ safe: true });
      handle.merge();
      expect(difference(run(), adapted)).toBeLessThan(1e-5);
      handle.unmerge();
      expect(run()).toEqual(adapted);
      handle.merge();
      handle.disable();
      expect(run()).toEqual(before);
      handle.enable();
      expect(run()).toEqual(adapted);
      const folder = join(dir, JSON.stringify(config).replace(/\W/g, ''));
      await handle.save(folder);
      handle.unload();
      expect(numbers()).toEqual(weights);
      expect(net.trainableParameters().size).toBe(net.parameters().length);
      const again = await loadAdapter(net, folder);
      expect(run()).toEqual(adapted);
      again.mergeAndUnload({ safe: true });
      expect(difference(run(), adapted)).toBeLessThan(1e-5);
      expect(net.conv.weight.parametrizations).toHaveLength(0);
    },
  );

  it('is LoRA of rank r k and alpha alpha k on a plain convolution', () => {
    const handle = attach(net, lowRankConv({ r: 2, loraAlpha: 3, targetModules: ['conv'], trainBiases: false }));
    disturb(handle);
    const adapted = run();
    const update = handle.layers.get('conv');
    const [A, B] = [update?.lora_A.stored.clone(), update?.lora_B.stored.clone()] as Tensor[];
    handle.unload();
    const equal = attach(net, lora({ r: 6, loraAlpha: 9, targetModules: ['conv'] }));
    const factors = equal.layers.get('conv')?.factors('default');
    factors?.A.assign(reshape(A, [6, 3, 3, 3]));
    factors?.B.assign(reshape(B, [2, 6, 1, 1]));
    expect(difference(run(), adapted)).toBeLessThan(1e-5);
  });

  it('trains r k (in k k + out) numbers for a weight, biases and noise strengths', () => {
    const handle = attach(net, lowRankConv());
    expect(handle.describe().find(({ path }) => path === 'conv1')).toMatchObject({
      layer: 'SynthesisLayer',
      r: 3,
      parameters: 3 * (2 * 9 + 4),
      baseParameters: 72,
    });
    const names = [...handle.parameters().keys()];
    expect(names).toContain('conv1.noise_strength');
    expect(names).toContain('torgb.affine.bias');
    expect(names).toContain('conv0.weight.parametrizations.0.lora_A');
    expect(names.every((name) => !name.endsWith('weight'))).toBe(true);
    expect(handle.trainableFraction).toBeGreaterThan(0.3);
  });

  it('has gradients of both orders', () => {
    const handle = attach(net, lowRankConv({ targetModules: ['conv0', 'conv0.affine'] }));
    disturb(handle);
    // Away from the kink of leaky ReLU.
    net.conv0.bias.assign(tensor(Array(4).fill(40)));
    const parameters = [...handle.parameters().values()];
    gradCheck(
      (...values) => {
        const stored = parameters.map((parameter, i) => parameter.exchange(clone(values[i])));
        const y = net.conv0.apply(tensor(Array(64).fill(0.5), [1, 4, 4, 4]), tensor([[1, 2, 3]]));
        for (const [i, parameter] of parameters.entries()) parameter.exchange(stored[i]);
        return y;
      },
      parameters.map(({ stored }) => stored),
    );
  });

  it('is traced again where it is switched', () => {
    const handle = attach(net, lowRankConv());
    disturb(handle);
    const step = jit((x: Tensor) => net.apply(x), { state: [moduleState(net)] });
    const traced = (): number[] => tidy(() => Array.from(step(x).dataSync()));
    for (const change of ['enable', 'disable', 'enable', 'merge', 'unmerge'] as const) {
      handle[change]();
      expect(difference(traced(), run())).toBeLessThan(1e-5);
    }
    step.dispose();
  });

  it('trains beside adapters of another kind', () => {
    const handle = attach(net, lowRankConv({ targetModules: ['conv1'] }));
    const other = attach(net, lora({ targetModules: ['conv', 'head'] }));
    disturb(handle);
    const both = run();
    handle.merge();
    other.merge();
    expect(difference(run(), both)).toBeLessThan(1e-5);
    other.unload();
    handle.unload();
    const first = attach(net, lowRankConv({ targetModules: ['conv1'] }));
    const second = attach(net, lowRankConv({ targetModules: ['conv1'] }), { name: 'second' });
    expect(() => first.merge()).toThrow(/'conv1' has other parametrizations/);
    first.unload();
    second.merge();
    second.unload();
    expect(net.trainableParameters().size).toBe(net.parameters().length);
  });

  it('leaves no tensor behind', async () => {
    run();
    const folder = join(dir, 'leaks');
    const before = memory().numTensors;
    const handle = attach(net, lowRankConv());
    handle.merge();
    await handle.save(folder);
    await handle.load(folder);
    handle.disable();
    handle.unload();
    (await loadLowRankConv(net, folder)).unload();
    net.conv.weight.assign(tensor(Array(54).fill(Number.NaN), [2, 3, 3, 3]));
    expect(memory().numTensors).toBe(before);
  });

  it('refuses a tied weight, no layer, and what is not finite', () => {
    expect(() => attach(net, lowRankConv({ targetModules: ['cnv'] }))).toThrow(/closest: conv/);
    const handle = attach(net, lowRankConv());
    handle.layers.get('conv')?.lora_B.assign(tensor(Array(6).fill(Number.NaN), [2, 3]));
    expect(() => handle.merge({ safe: true })).toThrow(NumericsError);
    handle.unload();
    Object.assign(net, { tied: net.conv.weight });
    expect(() => attach(net, lowRankConv())).toThrow(/'conv' is tied/);
  });

  it.each([
    [{ r: 0 }, /r is 0; it must be a positive integer/],
    [{ loraAlpha: Number.NaN }, /loraAlpha is NaN/],
    [{ trainBiases: 1 }, /trainBiases is 1/],
    [{ targetModules: 3 }, /targetModules is 3/],
  ] as unknown as [LowRankConvConfig, RegExp][])('refuses %o', (config, message) => {
    expect(() => lowRankConv(config)).toThrow(ConfigError);
    expect(() => lowRankConv(config)).toThrow(message);
  });

  it('takes only files made for this model', async () => {
    const folder = join(dir, 'foreign');
    await attach(net, lowRankConv({ r: 2, targetModules: ['conv'] })).save(folder);
    const path = join(folder, 'adapter_config.json');
    const other = new Net(new Rng(8));
    tidy(() => other.apply(x));
    (await loadLowRankConv(other, folder)).unload();
    const wider = attach(other, lowRankConv({ r: 3, targetModules: ['conv'] }));
    await expect(wider.load(folder)).rejects.toThrow(/conv\.lora_A is \[6,27\], not \[9,27\]/);
    wider.unload();
    const json = JSON.parse(await readFile(path, 'utf8'));
    const field = fc.constantFrom(...Object.keys(json), 'other');
    await fc.assert(
      fc.asyncProperty(field, fc.jsonValue(), async (name, value) => {
        await writeFile(path, JSON.stringify({ ...json, [name]: value }));
        const before = memory().numTensors;
        const failure = await loadLowRankConv(other, folder).then(
          (handle) => handle.unload() && undefined,
          (error: Error) => error,
        );
        expect(failure === undefined || failure instanceof FormatError || failure instanceof ConfigError).toBe(true);
        expect(other.conv.weight.parametrizations).toHaveLength(0);
        expect(memory().numTensors).toBe(before);
      }),
      { numRuns: 100 },
    );
  });
});
