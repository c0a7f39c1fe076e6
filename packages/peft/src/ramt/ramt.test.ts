import '@ashlar/backend-ort';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Conv1D, Conv2d, Embedding, Linear, MultiHeadAttention } from '@ashlar/nn';
import { adam, Optimizer } from '@ashlar/optim';
import {
  add,
  ConfigError,
  clone,
  crossEntropy,
  disposeMap,
  FormatError,
  jit,
  lossAndGrads,
  Module,
  memory,
  moduleState,
  mul,
  type Parameter,
  Rng,
  reshape,
  saveSafetensors,
  setBackend,
  stateDict,
  sum,
  type Tensor,
  tensor,
  tidy,
} from '@ashlar/tensor';
import { gradCheck } from '@ashlar/tensor/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadAdapter } from '../load.ts';
import { lora } from '../lora/lora.ts';
import { attach } from '../method.ts';
import { BinaryMask } from './binary-mask.ts';
import type { RamtConfig } from './config.ts';
import { gradientDropout, keepProbability, maskGradients } from './gradient-dropout.ts';
import { knowledgeLoss, maskNormPenalty } from './losses.ts';
import { loadRamt, type RamtModel, ramt } from './ramt.ts';

class Net extends Module {
  embed: Embedding;
  attn: MultiHeadAttention;
  c_fc: Conv1D;
  conv: Conv2d;
  head: Linear;

  constructor(rng = new Rng(7)) {
    super();
    this.embed = new Embedding(11, 8, { rng: rng.fork('embed') });
    this.attn = new MultiHeadAttention(8, { heads: 2, rng: rng.fork('attn') });
    this.c_fc = new Conv1D(8, 8, { rng: rng.fork('fc') });
    this.conv = new Conv2d(1, 2, 3, { padding: 1, rng: rng.fork('conv') });
    this.head = new Linear(48, 5, { rng: rng.fork('head') });
  }

  forward(ids: Tensor): Tensor {
    const [batch, seq] = ids.shape as [number, number];
    const hidden = this.c_fc.apply(this.attn.apply(this.embed.apply(ids)));
    return this.head.apply(reshape(this.conv.apply(reshape(hidden, [batch, 1, seq, 8])), [batch, -1]));
  }
}

const EVERYTHING = ['embed', 'q_proj', 'c_fc', 'conv', 'head'];
let ids: Tensor;
let dir: string;
let net: Net;

beforeAll(async () => {
  await setBackend('ort');
  ids = tensor([1, 4, 4, 10, 0, 3], [2, 3], 'int32');
  dir = await mkdtemp(join(tmpdir(), 'ramt-'));
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(() => {
  net = new Net().eval();
});

const run = (): number[] => tidy(() => Array.from(net.apply(ids).dataSync()));
const numbers = (): number[][] => [...stateDict(net).values()].map((value) => Array.from(value.dataSync()));
const difference = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i])));

/** Switches about a third of the weights off. */
function disturb(handle: RamtModel): void {
  const rng = new Rng(1);
  for (const [name, parameter] of handle.parameters()) {
    parameter.assign(rng.fork(name).uniform(parameter.shape, { low: 0, high: 0.015 }));
  }
}

describe('ramt', () => {
  it.each([{}, { targetModules: EVERYTHING }, { targetModules: 'all-linear', tau: 0.006 }] as RamtConfig[])(
    'changes nothing at the start, then merges, saves and loads to equal outputs (%o)',
    async (config) => {
      const [before, weights] = [run(), numbers()];
      const handle = attach(net, ramt(config));
      expect(run()).toEqual(before);
      expect(handle.sparsity().overall).toBe(0);
      disturb(handle);
      const adapted = run();
      expect(difference(adapted, before)).toBeGreaterThan(1e-3);
      const { overall, layers } = handle.sparsity();
      expect(overall).toBeGreaterThan(0.2);
      expect(overall).toBeLessThan(0.5);
      expect([...layers.keys()]).toEqual(handle.describe().map(({ path }) => path));
      handle.merge({ safe: true });
      handle.merge();
      expect(run()).toEqual(adapted);
      handle.unmerge();
      expect(run()).toEqual(adapted);
      handle.merge();
      handle.disable();
      expect(run()).toEqual(before);
      handle.enable();
      const folder = join(dir, JSON.stringify(config).replace(/\W/g, ''));
      await handle.save(folder);
      handle.unload();
      expect(numbers()).toEqual(weights);
      expect(net.trainableParameters().size).toBe(net.parameters().length);
      const again = await loadAdapter(net, folder);
      expect(run()).toEqual(adapted);
      again.mergeAndUnload();
      expect(run()).toEqual(adapted);
    },
  );

  it('masks the projections of attention unless it is told otherwise, a number for each weight', () => {
    const handle = attach(net, ramt());
    expect(handle.describe().map(({ path }) => path)).toEqual(
      ['q_proj', 'k_proj', 'v_proj', 'out_proj'].map((name) => `attn.${name}`),
    );
    const size = [...handle.parameters().values()].reduce((n, parameter) => n + parameter.size, 0);
    expect(size).toBe(4 * 64);
    expect(handle.trainableFraction).toBeCloseTo(size / net.parameters().reduce((n, p) => n + p.size, 0), 10);
    expect(() => attach(net.conv, ramt())).toThrow(/no attention layer .*targetModules/);
  });

  it('keeps a bit for each weight in a file', async () => {
    const folder = join(dir, 'bits');
    const handle = attach(net, ramt({ targetModules: ['q_proj'] }));
    disturb(handle);
    await handle.save(folder, { baseModel: 'base' });
    const json = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'));
    expect(json).toMatchObject({ peft_type: 'RAMT', base_model_name_or_path: 'base', tau: 5e-3, init: 1e-2 });
    const file = await readFile(join(folder, 'adapter_model.safetensors'));
    expect(file.subarray(file.length - 8)).toEqual(Buffer.from(handle.bits().get('attn.q_proj') as Uint8Array));
  });

  it('learns by straight-through gradients, the same under jit, the weights as they were', () => {
    const weights = numbers();
    const labels = tensor([1, 3], [2], 'int32');
    const train = (traced: boolean): { losses: number[]; bits: Uint8Array[] } => {
      const handle = attach(net, ramt({ targetModules: EVERYTHING }));
      const parameters = handle.parameters();
      const optimizer = new Optimizer(parameters, adam({ learningRate: 1e-3 }));
      const step = (x: Tensor): Tensor => {
        const { loss, grads } = lossAndGrads(
          () => add(crossEntropy(net.apply(x), labels), maskNormPenalty(handle.masks())),
          parameters,
        );
        optimizer.step(grads);
        disposeMap(grads);
        return loss;
      };
      const jitted = jit(step, { state: [moduleState(net), optimizer] });
      const losses = Array.from({ length: 20 }, () => {
        const loss = (traced ? jitted : step)(ids);
        const [value] = loss.dataSync();
        loss.dispose();
        return value;
      });
      jitted.dispose();
      optimizer.dispose();
      const bits = [...handle.bits().values()];
      handle.unload();
      return { losses, bits };
    };
    const [eager, traced] = [train(false), train(true)];
    expect(eager.losses[19]).toBeLessThan(0.9 * eager.losses[0]);
    expect(eager.bits.flatMap((bytes) => [...bytes]).some((byte) => byte !== 255 && byte !== 192)).toBe(true);
    expect(difference(eager.losses, traced.losses)).toBeLessThan(1e-5);
    expect(traced.bits).toEqual(eager.bits);
    expect(train(false)).toEqual(eager);
    expect(numbers()).toEqual(weights);
    labels.dispose();
  });

  it('is traced again where it is switched', () => {
    const handle = attach(net, ramt());
    disturb(handle);
    const step = jit((x: Tensor) => net.apply(x), { state: [moduleState(net)] });
    for (const change of ['enable', 'disable', 'enable', 'merge', 'unmerge'] as const) {
      handle[change]();
      expect(
        difference(
          tidy(() => Array.from(step(ids).dataSync())),
          run(),
        ),
      ).toBeLessThan(1e-5);
    }
    step.dispose();
  });

  it('lets LoRA train on top', () => {
    const handle = attach(net, ramt({ targetModules: ['head'] }));
    disturb(handle);
    const other = attach(net, lora({ targetModules: ['c_fc'] }));
    const both = run();
    handle.merge();
    other.merge();
    expect(difference(run(), both)).toBeLessThan(1e-5);
    other.unload();
    handle.unload();
    const under = attach(net, ramt({ targetModules: ['head'] }));
    const over = attach(net, lora({ targetModules: ['head'] }));
    const names = [...net.trainableParameters().keys()];
    expect(names.some((name) => name.includes('mask'))).toBe(true);
    expect(names.some((name) => name.includes('lora_A'))).toBe(true);
    expect(() => over.merge()).toThrow(/parametrizations; merge these first/);
    over.unload();
    under.unload();
    expect(net.trainableParameters().size).toBe(net.parameters().length);
  });

  it('leaves no tensor behind', async () => {
    run();
    const folder = join(dir, 'leaks');
    const before = memory().numTensors;
    const handle = attach(net, ramt({ targetModules: EVERYTHING }));
    handle.merge();
    await handle.save(folder);
    await handle.load(folder);
    disposeMap(handle.stateDict());
    handle.unload();
    (await loadRamt(net, folder)).unload();
    expect(memory().numTensors).toBe(before);
  });

  it.each([
    [{ tau: Number.NaN }, /tau is NaN/],
    [{ tau: 0.01 }, /init is 0\.01; it must be a finite number above tau, 0\.01: else every weight starts/],
    [{ init: 'ones' }, /init is "ones"/],
    [{ targetModules: 3 }, /targetModules is 3/],
  ] as unknown as [RamtConfig, RegExp][])('refuses %o', (config, message) => {
    expect(() => ramt(config)).toThrow(ConfigError);
    expect(() => ramt(config)).toThrow(message);
  });

  it('takes only files made for this model', async () => {
    const folder = join(dir, 'foreign');
    const handle = attach(net, ramt({ targetModules: ['q_proj', 'conv'] }));
    await handle.save(folder);
    handle.unload();
    const other = new Net(new Rng(8));
    tidy(() => other.apply(ids));
    await expect(loadRamt(other, folder)).rejects.toThrow(/made for other base weights: attn\.q_proj, conv/);
    const [config, tensors] = ['adapter_config.json', 'adapter_model.safetensors'].map((name) => join(folder, name));
    const json = JSON.parse(await readFile(config, 'utf8'));
    const name = 'base_model.model.attn.q_proj.mask_bits';
    const good: [string, Tensor] = ['base_model.model.conv.mask_bits', tensor([255, 255, 192], [3], 'int32')];
    for (const [entries, message] of [
      [[good], /missing: .*q_proj\.mask_bits/],
      [[good, [name, tensor([1, 2], [2], 'int32')]], /q_proj\.mask_bits: 2 bytes; a mask of 64 weights has 8/],
      [[good, [name, tensor(Array(8).fill(256), [8], 'int32')]], /q_proj\.mask_bits: 0 bytes/],
      [[good, [name, tensor(Array(8).fill(1), [8])]], /q_proj\.mask_bits: 0 bytes/],
      [[[good[0], tensor([255, 255, 255], [3], 'int32')]], /conv\.mask_bits: bits behind the last weight are set/],
      [[good, ['more', tensor([1])]], /unexpected: "more"/],
    ] as [[string, Tensor][], RegExp][]) {
      await saveSafetensors(tensors, entries);
      await expect(loadRamt(net, folder)).rejects.toThrow(FormatError);
      await expect(loadRamt(net, folder)).rejects.toThrow(message);
    }
    run();
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...Object.keys(json), 'other'), fc.jsonValue(), async (field, value) => {
        await writeFile(config, JSON.stringify({ ...json, [field]: value }));
        const before = memory().numTensors;
        const failure = await loadRamt(net, folder).catch((error: Error) => error);
        expect(failure instanceof FormatError || failure instanceof ConfigError).toBe(true);
        expect(memory().numTensors).toBe(before);
      }),
      { numRuns: 100 },
    );
    expect(net.trainableParameters().size).toBe(net.parameters().length);
  });

  it('refuses a tied weight', () => {
    Object.assign(net, { tied: net.head.weight });
    expect(() => attach(net, ramt({ targetModules: ['head'] }))).toThrow(/'head' is tied/);
  });
});

describe('BinaryMask', () => {
  it('has a bit for each weight, and takes any bits', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 4 }), fc.integer({ min: 0, max: 7 }), (bytes, spare) => {
        bytes[bytes.length - 1] &= 255 << spare;
        const mask = new BinaryMask([8 * bytes.length - spare], { tau: 5e-3, init: 1e-2 });
        expect(mask.problemWith(bytes)).toBeUndefined();
        mask.setBits(bytes);
        expect(mask.bits()).toEqual(bytes);
        const ones = tidy(() => sum(mask.binary()).dataSync()[0]);
        expect(mask.sparsity).toBeCloseTo(1 - ones / mask.mask.size, 6);
        mask.dispose();
      }),
    );
  });

  it('passes the gradient on as if it were not there, times the weight', () => {
    const mask = new BinaryMask([2, 2], { tau: 0.5, init: 1 });
    mask.mask.assign(tensor([0.5, 0.6, -3, 9], [2, 2]));
    const weight = tensor([1, -2, 3, 4], [2, 2]);
    const parameters = new Map([['mask', mask.mask]]);
    const { loss, grads } = lossAndGrads(() => sum(mul(mask.apply(weight), tensor([5, 6, 7, 8], [2, 2]))), parameters);
    expect(loss.dataSync()[0]).toBe(-12 + 32);
    expect(Array.from((grads.get('mask') as Tensor).dataSync())).toEqual([5, -12, 21, 32]);
  });
});

describe('gradient dropout', () => {
  const rng = new Rng(2);

  it('keeps what agrees, and of what disagrees the share of the task', () => {
    const [a, b] = [tensor([1, -1, 3, 0]), tensor([2, -5, -1, 4])];
    const p = Array.from(keepProbability(a, b).dataSync());
    for (const [i, expected] of [1, 1, 0.75, 0.5].entries()) expect(p[i]).toBeCloseTo(expected, 6);
    const uniform = tensor([0.999, 0.9, 0.8, 0.2]);
    expect(Array.from(gradientDropout(a, b, uniform).dataSync())).toEqual([1, -1, 0, 0]);
    const partly = gradientDropout(a, b, uniform, 0.25).dataSync();
    expect(partly[2]).toBeCloseTo(2.25, 6);
    expect(() => gradientDropout(a, b, uniform, 1.1)).toThrow(/lambda is 1\.1; it must be in \[0, 1\]/);
  });

  it('gives plain gradients with lambda 0, the same for the same seed, and leaks nothing', () => {
    const handle = attach(net, ramt());
    const parameters: ReadonlyMap<string, Parameter> = handle.parameters();
    const labels = tensor([1, 3], [2], 'int32');
    const loss = (): Tensor => crossEntropy(net.apply(ids), labels);
    const teacher = rng.normal([2, 5]);
    const knowledge = (): Tensor => knowledgeLoss(net.apply(ids), teacher);
    const gradients = (lambda: number, seed: number): number[] => {
      const { loss: value, grads } = maskGradients(loss, parameters, { knowledge, lambda, rng: new Rng(seed) });
      const all = [...grads.values()].flatMap((gradient) => Array.from(gradient.dataSync()));
      value.dispose();
      disposeMap(grads);
      return all;
    };
    const plain = gradients(0, 1);
    const before = memory().numTensors;
    const dropped = gradients(1, 1);
    expect(gradients(1, 1)).toEqual(dropped);
    expect(gradients(1, 2)).not.toEqual(dropped);
    expect(dropped.every((value, i) => value === 0 || Math.abs(value - plain[i]) < 1e-7)).toBe(true);
    expect(dropped.filter((value) => value === 0).length).toBeGreaterThan(plain.filter((v) => v === 0).length + 10);
    const failing = { knowledge: () => ids.shape.map(() => expect.fail('no teacher')) as never, rng };
    expect(() => maskGradients(loss, parameters, failing)).toThrow('no teacher');
    expect(memory().numTensors).toBe(before);
  });
});

describe('the losses', () => {
  it('have gradients of both orders', () => {
    const [student, teacher] = [new Rng(3).normal([3, 4]), new Rng(4).normal([3, 4])];
    for (const options of [{}, { T: 2 }, { T: 2, alpha: 0.3 }]) {
      gradCheck((s, t) => knowledgeLoss(s, t, options), [student, teacher]);
    }
    gradCheck((a, b) => maskNormPenalty([a, b], 0.5), [student, clone(teacher)]);
    expect(() => knowledgeLoss(student, teacher, { T: 0 })).toThrow(/T is 0/);
  });

  it('have no slope at a zero mask', () => {
    const { loss, grads } = (() => {
      const mask = new BinaryMask([3], { tau: -1, init: 0 });
      return lossAndGrads(() => maskNormPenalty([mask.mask.value]), new Map([['m', mask.mask]]));
    })();
    expect(loss.dataSync()[0]).toBe(0);
    expect(Array.from((grads.get('m') as Tensor).dataSync())).toEqual([0, 0, 0]);
  });
});
