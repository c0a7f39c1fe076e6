import '@ashlar/backend-ort';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Conv1D, Conv2d, Embedding, Linear } from '@ashlar/nn';
import {
  add,
  ConfigError,
  clone,
  disposeMap,
  div,
  euclideanNorm,
  FormatError,
  keep,
  lossAndGrads,
  Module,
  matMul,
  memory,
  mul,
  NumericsError,
  type Parameter,
  Rng,
  relu,
  reshape,
  setBackend,
  square,
  stateDict,
  sub,
  sum,
  type Tensor,
  tensor,
  tidy,
} from '@ashlar/tensor';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { attach } from '../method.ts';
import type { LoraConfig } from './config.ts';
import { LoraModel, loadLora, lora } from './lora.ts';

class Net extends Module {
  embed: Embedding;
  layers: { q_proj: Linear; c_attn: Conv1D }[];
  conv: Conv2d;
  lm_head: Linear;

  constructor(rng = new Rng(7)) {
    super();
    this.embed = new Embedding(11, 8, { rng: rng.fork('embed') });
    this.layers = [0, 1].map((i) => ({
      q_proj: new Linear(8, 8, { rng: rng.fork(`q${i}`) }),
      c_attn: new Conv1D(8, 8, { rng: rng.fork(`c${i}`) }),
    }));
    this.conv = new Conv2d(1, 2, 3, { padding: 1, rng: rng.fork('conv') });
    this.lm_head = new Linear(16, 5, { rng: rng.fork('head') });
  }

  forward(ids: Tensor): Tensor {
    const start = this.embed.apply(ids);
    const hidden = this.layers.reduce((x, { q_proj, c_attn }) => relu(c_attn.apply(q_proj.apply(x))), start);
    const [batch, seq, dim] = hidden.shape;
    const image = this.conv.apply(reshape(hidden, [batch, 1, seq, dim]));
    return this.lm_head.apply(reshape(image, [batch, seq, 2 * dim]));
  }
}

const EVERYTHING = ['embed', 'q_proj', 'c_attn', 'conv', 'lm_head'];
let ids: Tensor;
let dir: string;
let net: Net;

beforeAll(async () => {
  await setBackend('ort');
  ids = tensor([1, 4, 4, 10, 0, 3], [2, 3], 'int32');
  dir = await mkdtemp(join(tmpdir(), 'lora-'));
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(() => {
  net = new Net().eval();
});

const run = (model: Module = net): number[] => tidy(() => Array.from(model.apply(ids).dataSync()));
const weights = (): Map<string, number[]> =>
  new Map([...stateDict(net)].map(([name, value]) => [name, Array.from(value.dataSync())]));

function closeTo(actual: readonly number[], expected: readonly number[], tolerance = 1e-5): void {
  expect(actual.length).toBe(expected.length);
  const worst = Math.max(...actual.map((value, i) => Math.abs(value - expected[i]) / (1 + Math.abs(expected[i]))));
  expect(worst).toBeLessThan(tolerance);
}

/** Gives every adapter parameter a value that is not zero, so that the adapter does something. */
function disturb(handle: LoraModel, seed = 1): void {
  const rng = new Rng(seed);
  for (const [name, parameter] of handle.parameters()) {
    parameter.assign(tidy(() => add(parameter.stored, rng.fork(name).normal(parameter.shape, { std: 0.3 }))));
  }
}

describe('lora', () => {
  it.each([{}, { useDora: true }, { useRslora: true }, { initLoraWeights: 'gaussian' }] as LoraConfig[])(
    'changes nothing at the start, then merges and unmerges to equal outputs (%o)',
    (options) => {
      const before = run();
      const original = weights();
      const handle = attach(net, lora({ r: 3, targetModules: EVERYTHING, ...options }), { rng: new Rng(3) });
      closeTo(run(), before);
      disturb(handle);
      const adapted = run();
      expect(Math.max(...adapted.map((value, i) => Math.abs(value - before[i])))).toBeGreaterThan(0.05);
      handle.merge({ safe: true });
      closeTo(run(), adapted);
      handle.merge();
      closeTo(run(), adapted);
      handle.unmerge();
      closeTo(run(), adapted);
      handle.disable();
      closeTo(run(), before);
      handle.enable();
      handle.unload();
      for (const [name, value] of weights()) closeTo(value, original.get(name) as number[], 2e-6);
      expect(net.trainableParameters().size).toBe(net.parameters().length);
    },
  );

  it.each(['pissa', 'pissa_niter_8', 'olora', 'orthogonal'] as const)(
    '%s starts from the base as it was, saves as plain LoRA, and unloads to the base',
    async (initLoraWeights) => {
      const before = run();
      const original = weights();
      const config = { r: 2, loraAlpha: 6, targetModules: ['q_proj', 'c_attn'], initLoraWeights };
      const handle = attach(net, lora(config), { rng: new Rng(3) });
      closeTo(run(), before);
      disturb(handle);
      const adapted = run();
      const folder = join(dir, initLoraWeights);
      await handle.save(folder);
      handle.unload();
      for (const [name, value] of weights()) closeTo(value, original.get(name) as number[], 1e-5);
      const again = await loadLora(net, folder);
      closeTo(run(), adapted);
      again.unload();
    },
  );

  it('loads PiSSA as it is, by redoing the initialisation', async () => {
    const handle = attach(net, lora({ r: 2, targetModules: ['q_proj'], initLoraWeights: 'pissa' }));
    disturb(handle);
    const adapted = run();
    await handle.save(join(dir, 'pissa-raw'), { asPlainLora: false });
    handle.unload();
    const json = JSON.parse(await readFile(join(dir, 'pissa-raw', 'adapter_config.json'), 'utf8'));
    expect(json).toMatchObject({ init_lora_weights: 'pissa', r: 2, peft_type: 'LORA' });
    await loadLora(net, join(dir, 'pissa-raw'));
    closeTo(run(), adapted);
  });

  it('trains the adapter alone, without leaks, the same from the same seed', () => {
    const train = (): number[] => {
      const model = new Net();
      const handle = attach(model, lora({ r: 2, loraDropout: 0.3, targetModules: EVERYTHING }), { rng: new Rng(5) });
      const losses: number[] = [];
      const frozen = Array.from(model.layers[0].q_proj.weight?.stored.dataSync() ?? []);
      let before = 0;
      for (let step = 0; step < 100; step++) {
        if (step === 1) before = memory().numTensors;
        const { loss, grads } = lossAndGrads(() => sum(square(model.apply(ids))), handle.parameters());
        losses.push(loss.dataSync()[0]);
        for (const [name, parameter] of handle.parameters()) {
          parameter.assign(tidy(() => add(parameter.stored, mul(grads.get(name) as Tensor, -1e-2))));
        }
        loss.dispose();
        disposeMap(grads);
      }
      expect(memory().numTensors).toBe(before);
      expect(frozen).toEqual(Array.from(model.layers[0].q_proj.weight?.stored.dataSync() ?? []));
      model.dispose();
      return losses;
    };
    const losses = train();
    expect(losses[99]).toBeLessThan(losses[0] * 0.8);
    expect(train()).toEqual(losses);
  });

  it('swaps named adapters, trains the active one only, and combines them', () => {
    const handle = attach(net, lora({ r: 2, targetModules: ['q_proj', 'conv'] }), { name: 'a', rng: new Rng(1) });
    disturb(handle, 1);
    const a = run();
    handle.add('b', { r: 2, loraAlpha: 4, targetModules: ['q_proj', 'c_attn', 'embed'] }, { rng: new Rng(2) });
    expect(handle.active).toEqual(['b']);
    expect([...handle.parameters().keys()].every((name) => name.includes('.b'))).toBe(true);
    disturb(handle, 2);
    const b = run();
    handle.setActive('a');
    closeTo(run(), a);
    handle.setActive('b');
    closeTo(run(), b);
    handle.setActive(['a', 'b']);
    const both = run();
    handle.combine(['a', 'b'], [1, 1], 'sum');
    closeTo(run(), both, 1e-4);
    handle.combine(['a', 'b'], [1, 1], 'svd', { combinationType: 'svd', svdRank: 4 });
    closeTo(run(), both, 1e-4);
    handle.setScale('a', 0);
    handle.setActive('a');
    closeTo(
      run(),
      handle.withDisabled(() => run()),
    );
    expect(() => handle.combine(['a', 'missing'], [1, 1], 'x')).toThrow(/No adapter 'missing'/);
    handle.delete('b');
    expect(handle.names).toEqual(['a', 'sum', 'svd']);
    handle.unload();
    expect(net.layers[0].q_proj).toBeInstanceOf(Linear);
  });

  it('runs each row of a batch through its own adapter', () => {
    const handle = attach(net, lora({ r: 2, targetModules: EVERYTHING }), { name: 'a', rng: new Rng(1) });
    disturb(handle, 1);
    const rows = (): number[][] => {
      const all = run();
      return [0, 1].map((row) => all.slice((row * all.length) / 2, ((row + 1) * all.length) / 2));
    };
    const a = rows();
    handle.add('b', { r: 3, loraAlpha: 4, targetModules: ['q_proj', 'embed', 'conv'] }, { rng: new Rng(2) });
    disturb(handle, 2);
    const b = rows();
    const base = handle.withDisabled(rows);
    handle.setActive(['a', 'b']);
    const both = rows();
    const before = memory().numTensors;
    for (const [names, expected] of [
      [
        ['a', 'b'],
        [a[0], b[1]],
      ],
      [
        ['b', 'a'],
        [b[0], a[1]],
      ],
      [
        ['b', null],
        [b[0], base[1]],
      ],
      [[null, null], base],
    ] as [(string | null)[], number[][]][]) {
      for (const [row, values] of handle.withRows(names, rows).entries()) closeTo(values, expected[row]);
    }
    expect(memory().numTensors).toBe(before);
    for (const [row, values] of rows().entries()) closeTo(values, both[row]);

    expect(() => handle.withRows(['a'], rows)).toThrow(/adapters for 1 rows; the batch is \[2,3\]/);
    expect(() => handle.withRows(['a', 'c'], rows)).toThrow(/rows names 'c', which is not active; active are a, b/);
    handle.merge();
    expect(() => handle.withRows(['a', 'b'], rows)).toThrow(/unmerge them before you choose adapters by row/);
    handle.unmerge();
    for (const [config, message] of [
      [{ useDora: true, targetModules: ['q_proj'] }, /'c' has useDora/],
      [{ loraBias: true, targetModules: ['q_proj'] }, /'c' has loraBias/],
      [{ bias: 'all', targetModules: ['q_proj'] }, /'c' changes parameters of the base/],
    ] as [LoraConfig, RegExp][]) {
      handle.add('c', config);
      expect(() => handle.withRows(['c', 'c'], rows)).toThrow(message);
      handle.delete('c');
    }
    expect(memory().numTensors).toBe(before);
  });

  it('trains and saves whole modules and biases with the adapter, each adapter its own', async () => {
    const before = run();
    const config: LoraConfig = { r: 2, targetModules: ['q_proj'], modulesToSave: ['lm_head'], bias: 'lora_only' };
    const handle = attach(net, lora(config), { rng: new Rng(1) });
    expect([...handle.parameters().keys()]).toEqual(
      expect.arrayContaining(['lm_head.weight', 'lm_head.bias', 'layers.0.q_proj.base_layer.bias']),
    );
    disturb(handle);
    const adapted = run();
    handle.disable();
    closeTo(run(), before);
    handle.enable();
    closeTo(run(), adapted);
    await handle.save(join(dir, 'whole'));
    handle.add('other', config, { rng: new Rng(2) });
    closeTo(run(), before);
    expect(() => handle.setActive(['default', 'other'])).toThrow(/Only one active adapter/);
    handle.setActive('default');
    closeTo(run(), adapted);
    handle.unload();
    closeTo(run(), before);
    const again = await loadLora(net, join(dir, 'whole'));
    closeTo(run(), adapted);
    const merged = again.mergeAndUnload();
    closeTo(run(merged as Net), adapted);
    expect([...merged.namedModules()].some(([, module]) => module.constructor.name.startsWith('Lora'))).toBe(false);
  });

  it('takes rank and alpha of a layer from the first pattern that matches its name', () => {
    const config: LoraConfig = {
      r: 4,
      loraAlpha: 8,
      targetModules: ['q_proj', 'c_attn'],
      rankPattern: { 'layers.1.q_proj': 2, q_proj: 3 },
      alphaPattern: { '1\\..*': 5 },
    };
    const handle = attach(net, lora(config));
    expect(handle.describe()).toMatchObject([
      { path: 'layers.0.q_proj', layer: 'Linear', r: 3, scaling: 8 / 3, parameters: 48, baseParameters: 64 },
      { path: 'layers.0.c_attn', layer: 'Conv1D', r: 4, scaling: 2, parameters: 64 },
      { path: 'layers.1.q_proj', r: 2, scaling: 2.5, parameters: 32 },
      { path: 'layers.1.c_attn', r: 4, scaling: 1.25, parameters: 64 },
    ]);
    expect(handle.trainableFraction).toBeCloseTo(208 / net.parameters().reduce((n, { size }) => n + size, 0), 6);
  });

  it('leaves no tensor behind', () => {
    run();
    const before = memory().numTensors;
    for (const initLoraWeights of [true, 'pissa', 'olora'] as const) {
      const handle = attach(net, lora({ targetModules: ['q_proj'], r: 2, initLoraWeights, useDora: true }));
      disturb(handle);
      handle.merge();
      run();
      handle.unmerge();
      handle.add('b', { targetModules: ['c_attn'], modulesToSave: ['lm_head'] });
      handle.unload();
    }
    expect(memory().numTensors).toBe(before);
    const handle = attach(net, lora({ targetModules: ['q_proj'], r: 2, initLoraWeights: 'pissa' }));
    run();
    handle.mergeAndUnload();
    expect(memory().numTensors).toBe(before);
  });
});

describe('errors', () => {
  it.each([
    [{ r: 0 }, /r is 0; it must be a positive integer/],
    [{ r: 2.5 }, /r is 2.5/],
    [{ loraDropout: 1 }, /loraDropout is 1; it must be in \[0, 1\)/],
    [{ targetModules: ['q_prj'] }, /'q_prj' \(closest: layers\.[01]\.q_proj/],
    [{ targetModules: 'q_proj' }, /matches no module/],
    [{ targetModules: '(' }, /no valid regular expression/],
    [{ targetModules: '(a)\\1' }, /no valid regular expression/],
    [{ targetModules: '.*q_proj', layersToTransform: 0 }, /layersToTransform needs targetModules to be a list/],
    [{ targetModules: ['q_proj'], loraBias: true, useDora: true }, /loraBias goes neither/],
    [{ targetModules: ['q_proj'], r: 9, initLoraWeights: 'pissa' }, /r is 9; .* at most min\(in, out\) = 8/],
    [{ targetModules: ['q_proj'], r: 3, initLoraWeights: 'orthogonal' }, /needs an even one/],
    [{ targetModules: ['conv'], r: 1, initLoraWeights: 'pissa' }, /linear layers only/],
    [{ targetModules: ['q_proj'], initLoraWeights: 'eva' as 'pissa' }, /initLoraWeights is "eva"/],
    [{ targetModules: ['q_proj'], modulesToSave: ['lm_haed'] }, /lm_head/],
    [{}, /no default targetModules/],
  ] as [LoraConfig, RegExp][])('%o is one clear ConfigError and leaves the model as it was', (config, message) => {
    const before = [...stateDict(net).keys()];
    const numbers = run();
    expect(() => attach(net, lora(config))).toThrow(message);
    expect(() => attach(net, lora(config))).toThrow(ConfigError);
    expect([...stateDict(net).keys()]).toEqual(before);
    closeTo(run(), numbers);
  });

  it('refuses a second handle, a taken name, and merging a tied or an overflowing weight', () => {
    const handle = attach(net, lora({ targetModules: ['lm_head'], r: 2 }));
    expect(() => new LoraModel(net)).toThrow(/LoRA at 'lm_head' already/);
    expect(() => handle.add('default', { targetModules: ['q_proj'] })).toThrow(/already/);
    const base = net.lm_head as unknown as { base_layer: Linear };
    const { A, B } = (
      handle.layers.get('lm_head') as { factors(name: string): { A: Parameter; B: Parameter } }
    ).factors('default');
    A.assign(tidy(() => mul(A.stored, 1e30)));
    B.assign(tidy(() => add(B.stored, 1e30)));
    const before = run();
    const weight = Array.from(base.base_layer.weight.stored.dataSync());
    expect(() => handle.merge({ safe: true })).toThrow(NumericsError);
    expect(Array.from(base.base_layer.weight.stored.dataSync())).toEqual(weight);
    expect(run()).toEqual(before);
    (net as unknown as { tied: Parameter }).tied = base.base_layer.weight;
    expect(() => handle.merge()).toThrow(/tied \(.*tied.*\)/);
  });

  it('names the file and everything wrong in it', async () => {
    const handle = attach(net, lora({ targetModules: ['q_proj'], r: 2 }));
    const folder = join(dir, 'broken');
    await handle.save(folder);
    handle.unload();
    const path = join(folder, 'adapter_config.json');
    const json = JSON.parse(await readFile(path, 'utf8'));
    const load = async (change: Record<string, unknown>): Promise<unknown> => {
      await writeFile(path, JSON.stringify({ ...json, ...change }));
      return loadLora(net, folder).catch((error: unknown) => error);
    };
    expect(String(await load({ r: 3 }))).toMatch(/wrong shape: .*q_proj\.lora_A\.weight is \[2,8\], not \[3,8\]/);
    expect(String(await load({ target_modules: ['q_proj', 'c_attn'] }))).toMatch(/missing: .*c_attn\.lora_A\.weight/);
    expect(String(await load({ use_qalora: true }))).toMatch(/use_qalora is true; this variant/);
    expect(String(await load({ use_something_new: true }))).toMatch(/use_something_new/);
    expect(String(await load({ peft_type: 'IA3' }))).toMatch(/adapter_config\.json: peft_type is "IA3"/);
    expect(await load({ rank_pattern: 3 })).toBeInstanceOf(FormatError);
    expect([...net.namedModules()].length).toBe(new Set([...net.namedModules()].map(([name]) => name)).size);
    expect(await load({})).toBeInstanceOf(LoraModel);
    await expect(loadLora(new Net(), join(dir, 'nowhere'))).rejects.toThrow(/adapter_config\.json cannot be read/);
  });

  it('keeps fields that it does not know, with one warning that names file and fields', async () => {
    const handle = attach(net, lora({ targetModules: ['q_proj'], r: 2 }));
    const folder = join(dir, 'newer');
    await handle.save(folder);
    handle.unload();
    const path = join(folder, 'adapter_config.json');
    const unknown = { new_field: { deep: [1, null] }, other: null };
    await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), ...unknown }));
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    const again = await loadLora(net, folder);
    expect(warn.mock.calls).toEqual([[`${path}: unknown fields are kept but have no effect: new_field, other.`]]);
    warn.mockRestore();
    await again.save(join(dir, 'newer-again'));
    expect(JSON.parse(await readFile(join(dir, 'newer-again', 'adapter_config.json'), 'utf8'))).toMatchObject(unknown);
  });

  it('refuses the frozen weights of another model in a file, and takes those of its own', async () => {
    const weight = net.embed.weight.stored;
    const handle = attach(net, lora({ targetModules: ['embed'], r: 2 }));
    const key = 'base_model.model.embed.base_layer.weight';
    const tensors = handle.stateDict('default');
    handle.loadStateDict('default', new Map([...tensors, [key, weight]]));
    const other = add(weight, 1);
    expect(() => handle.loadStateDict('default', new Map([...tensors, [key, other]]))).toThrow(
      /other base weights: .*embed/,
    );
    disposeMap(tensors);
    other.dispose();
  });

  it('answers any adapter_config.json with a handle or one of our errors', async () => {
    const value = fc.oneof(fc.jsonValue(), fc.constantFrom(true, 'pissa', ['q_proj'], 'q_proj', 2, {}, { q_proj: 2 }));
    const keys = ['r', 'lora_alpha', 'target_modules', 'rank_pattern', 'alpha_pattern', 'layers_to_transform', 'bias'];
    const { fromPeftConfig } = await import('./files.ts');
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...keys, 'init_lora_weights', '__proto__'), value), (change) => {
        try {
          const config = fromPeftConfig({ peft_type: 'LORA', target_modules: ['q_proj'], ...change });
          const model = new Net();
          try {
            attach(model, lora({ ...config, r: Math.min(config.r, 64), rankPattern: {} })).unload();
          } finally {
            model.dispose();
          }
        } catch (error) {
          expect(error).toSatisfy((e: unknown) => e instanceof ConfigError || e instanceof FormatError);
        }
      }),
      { numRuns: 200 },
    );
  });
});

it('computes DoRA with dropout from the dropped input in every term', () => {
  const layer = new Linear(4, 3, { rng: new Rng(1) });
  class One extends Module {
    layer: Module = layer;
    forward(x: Tensor): Tensor {
      return this.layer.apply(x);
    }
  }
  const model = new One();
  attach(model, lora({ r: 2, targetModules: ['layer'], useDora: true, loraDropout: 0.5 }), { rng: new Rng(2) });
  const adapted = model.layer as unknown as {
    lora_A: Record<string, Linear>;
    lora_B: Record<string, Linear>;
    lora_magnitude_vector: Record<string, Parameter>;
    lora_dropout: Record<string, Module>;
  };
  adapted.lora_B.default.weight.assign(new Rng(3).normal([3, 2]));
  adapted.lora_magnitude_vector.default.assign(tensor([2, 0.5, 1]));
  const x = new Rng(4).normal([5, 4]);
  const dropped: Tensor[] = [];
  adapted.lora_dropout.default.registerForwardHook((out) => void dropped.push(keep(clone(out as Tensor))));
  tidy(() => {
    const y = Array.from(model.apply(x).dataSync());
    const [d] = dropped;
    const W = layer.weight.stored;
    const V = add(W, mul(matMul(adapted.lora_B.default.weight.stored, adapted.lora_A.default.weight.stored), 4));
    const ratio = div(adapted.lora_magnitude_vector.default.stored, euclideanNorm(V, 1));
    const base = add(matMul(x, W, false, true), (layer.bias as Parameter).stored);
    const expected = add(sub(base, matMul(d, W, false, true)), mul(ratio, matMul(d, V, false, true)));
    closeTo(y, Array.from(expected.dataSync()), 1e-5);
  });
});
