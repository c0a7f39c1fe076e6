import '@ashlar/backend-ort';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CausalLM, createModel } from '@ashlar/models';
import { Linear, MultiHeadAttention, Sequential, TransformerBlock } from '@ashlar/nn';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  add,
  ConfigError,
  crossEntropy,
  disposeMap,
  FormatError,
  jit,
  lossAndGrads,
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
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadAdapter } from '../load.ts';
import { lora } from '../lora/lora.ts';
import { attach } from '../method.ts';
import type { LofitConfig } from './config.ts';
import { dpoLoss } from './dpo-loss.ts';
import { LofitHeads } from './heads.ts';
import { type LofitModel, loadLofit, lofit } from './lofit.ts';
import { l1, selectHeads, topHeads } from './select-heads.ts';

const MODELS = {
  llama: {
    model_type: 'llama',
    vocab_size: 11,
    hidden_size: 12,
    head_dim: 6,
    intermediate_size: 16,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    initializer_range: 0.4,
  },
  gpt2: {
    model_type: 'gpt2',
    vocab_size: 11,
    n_embd: 12,
    n_layer: 2,
    n_head: 4,
    n_positions: 16,
    initializer_range: 0.4,
  },
} as const;

const make = (type: keyof typeof MODELS): CausalLM => createModel(MODELS[type], { rng: new Rng(3) }).eval() as CausalLM;

let ids: Tensor;
let dir: string;
let model: CausalLM;

beforeAll(async () => {
  await setBackend('ort');
  ids = tensor([1, 4, 4, 10, 0, 3], [2, 3], 'int32');
  dir = await mkdtemp(join(tmpdir(), 'lofit-'));
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(() => {
  model = make('llama');
});

const run = (of: CausalLM = model): number[] => tidy(() => Array.from(of.apply(ids).dataSync()));
const difference = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]) / (1 + Math.abs(b[i]))));
const weights = (of: CausalLM): number[][] => [...stateDict(of).values()].map((value) => Array.from(value.dataSync()));

function disturb(handle: LofitModel): void {
  const rng = new Rng(1);
  for (const [name, parameter] of handle.parameters()) {
    parameter.assign(tidy(() => add(parameter.stored, rng.fork(name).normal(parameter.shape, { std: 0.5 }))));
  }
}

class Stack extends Module {
  readonly blocks: TransformerBlock[];
  constructor(blocks: TransformerBlock[]) {
    super();
    this.blocks = blocks;
  }
  forward(x: Tensor): Tensor {
    return this.blocks.reduce((y, block) => block.apply(y), x);
  }
}

const CONFIGS: LofitConfig[] = [
  {},
  {
    heads: [
      [1, 2],
      [1, 0],
      [0, 3],
    ],
  },
  { scale: true },
  { scale: true, offset: false, heads: [[0, 1]] },
];

describe.each(['llama', 'gpt2'] as const)('lofit on %s', (type) => {
  it.each(CONFIGS)('starts close to the base, then merges, saves and loads to equal outputs (%o)', async (config) => {
    const net = make(type);
    const before = run(net);
    const original = weights(net);
    const handle = attach(net, lofit(config), { rng: new Rng(2) });
    expect(difference(run(net), before)).toBeLessThan(0.05);
    disturb(handle);
    const adapted = run(net);
    expect(difference(adapted, before)).toBeGreaterThan(0.01);
    handle.merge({ safe: true });
    handle.merge();
    expect(difference(run(net), adapted)).toBeLessThan(1e-5);
    handle.unmerge();
    expect(run(net)).toEqual(adapted);
    handle.merge();
    handle.disable();
    expect(run(net)).toEqual(before);
    handle.enable();
    handle.enable();
    expect(run(net)).toEqual(adapted);
    const folder = join(dir, `${type}${JSON.stringify(config).replace(/\W/g, '')}`);
    await handle.save(folder);
    handle.unload();
    expect(weights(net)).toEqual(original);
    expect(net.trainableParameters().size).toBe(net.parameters().length);
    const again = (await loadAdapter(net, folder)) as LofitModel;
    expect(run(net)).toEqual(adapted);
    expect(again.heads).toEqual(handle.heads);
    again.mergeAndUnload({ safe: true });
    expect(difference(run(net), adapted)).toBeLessThan(1e-5);
    expect([...net.namedModules()].some(([, module]) => module instanceof LofitHeads)).toBe(false);
  });
});

describe('lofit', () => {
  it('trains K headDim numbers of the chosen heads alone, the same under jit, without leaks', () => {
    const train = (traced: boolean): number[] => {
      const net = make('llama');
      const frozen = weights(net);
      const handle = attach(
        net,
        lofit({
          heads: [
            [1, 2],
            [0, 3],
          ],
        }),
        { rng: new Rng(4) },
      );
      const parameters = handle.parameters();
      expect([...parameters].map(([name, { shape }]) => [name, shape])).toEqual([
        ['model.layers.0.self_attn.o_proj.lofit.v', [1, 6]],
        ['model.layers.1.self_attn.o_proj.lofit.v', [1, 6]],
      ]);
      const optimizer = new Optimizer(parameters, adamw({ learningRate: 0.05, weightDecay: 0 }));
      const step = (x: Tensor): Tensor => {
        const { loss, grads } = lossAndGrads(() => crossEntropy(net.apply(x), x), parameters);
        optimizer.step(grads);
        disposeMap(grads);
        return loss;
      };
      const faster = traced ? jit(step, { state: [moduleState(net), optimizer] }) : step;
      const losses: number[] = [];
      let before = 0;
      for (let i = 0; i < 20; i++) {
        if (i === 2) before = memory().numTensors;
        const loss = faster(ids);
        losses.push(loss.dataSync()[0]);
        loss.dispose();
      }
      expect(memory().numTensors).toBe(before);
      optimizer.dispose();
      handle.unload();
      expect(weights(net)).toEqual(frozen);
      net.dispose();
      return losses;
    };
    const plain = train(false);
    expect(plain[19]).toBeLessThan(plain[0] - 0.1);
    expect(train(false)).toEqual(plain);
    expect(difference(train(true), plain)).toBeLessThan(1e-4);
  });

  it('has the gradients of finite differences', () => {
    const handle = attach(
      model,
      lofit({
        scale: true,
        heads: [
          [0, 1],
          [0, 2],
        ],
        initStd: 0.3,
      }),
    );
    const [heads] = handle.layers.values();
    const z = new Rng(5).normal([2, 3, 24]);
    gradCheck((x) => heads.apply(x), [z]);
    for (const parameter of [heads.A, heads.v]) {
      if (parameter === undefined) throw new Error('missing');
      const at = (value: Tensor): Tensor => {
        const own = parameter.exchange(value.clone());
        const y = heads.apply(z);
        parameter.exchange(own);
        return y;
      };
      gradCheck(at, [parameter.stored]);
    }
    gradCheck((x) => l1(x, 0.5), [tensor([0.5, -0.2, 0.3])], { order: 1 });
    expect(tidy(() => l1(tensor([0, 2, -3]), 0.5).dataSync()[0])).toBeCloseTo(2.5, 6);
  });

  it('finds the heads that matter, the same from the same seed, and leaves the model as it was', () => {
    const before = run();
    const original = weights(model);
    const tensors = memory().numTensors;
    const options = {
      loss: (x: Tensor) => crossEntropy(model.apply(x), x),
      batches: Array.from({ length: 12 }, () => ids),
      steps: 10,
      learningRate: 0.05,
      k: 3,
    };
    const { heads, scores } = selectHeads(model, { ...options, rng: new Rng(1) });
    expect(heads).toHaveLength(3);
    expect(scores).toHaveLength(8);
    const scoreOf = (head: readonly number[]): number =>
      scores.find((s) => String(s.head) === String(head))?.score ?? 0;
    const sorted = scores.map(({ score }) => score).sort((a, b) => b - a);
    expect(heads.map(scoreOf)).toEqual(sorted.slice(0, 3));
    expect(selectHeads(model, { ...options, rng: new Rng(1) })).toEqual({ heads, scores });
    expect(selectHeads(model, { ...options, k: undefined }).heads).toHaveLength(1);
    expect(() => selectHeads(model, { ...options, k: 9 })).toThrow(/k is 9; it must be an integer from 1 to 8/);
    expect(() => selectHeads(model, { ...options, steps: 20 })).toThrow(/batches ended after 12/);
    expect(() => selectHeads(model, { ...options, l1Lambda: -1 })).toThrow(/l1Lambda is -1/);
    const broken = () => selectHeads(model, { ...options, loss: () => tensor(Number.NaN) });
    expect(broken).toThrow(NumericsError);
    expect(run()).toEqual(before);
    expect(weights(model)).toEqual(original);
    expect(memory().numTensors).toBe(tensors);
    expect(topHeads([1, 3, 2, 3], 3)).toEqual([3, 1, 2]);
  });

  it('sets offsets to mean differences of activations', () => {
    const handle = attach(
      model,
      lofit({
        heads: [
          [1, 3],
          [1, 1],
        ],
      }),
    );
    const seen: number[][] = [];
    const projection = model.getSubmodule('model.layers.1.self_attn.o_proj');
    const capture = (): number[] => {
      handle.disable();
      const hook = projection.registerForwardPreHook(([z]) => {
        seen.push(Array.from((z as Tensor).dataSync()));
      });
      run();
      hook.remove();
      handle.enable();
      return seen.pop() as number[];
    };
    run();
    const z = capture();
    const at = (example: number, head: number): number[] => z.slice((example * 3 + 2) * 24 + head * 6).slice(0, 6);
    const other = tensor([1, 4, 4], [1, 3], 'int32');
    const last = tensor([10, 0, 3], [1, 3], 'int32');
    const runs = (x: Tensor) => () => model.apply(x).dispose();
    const before = memory().numTensors;
    handle.setMeanDifference(runs(other), runs(last), { strength: 2 });
    expect(memory().numTensors).toBe(before);
    const { v } = handle.layers.get('model.layers.1.self_attn.o_proj') as LofitHeads;
    const expected = [3, 1].flatMap((head) => at(0, head).map((value, i) => 2 * (value - at(1, head)[i])));
    expect(difference(Array.from(v?.stored.dataSync() ?? []), expected)).toBeLessThan(1e-5);
    handle.setMeanDifference(runs(other), runs(last), { scaling: 'std' });
    // Two examples, the difference between them along theta: its half is their deviation.
    expect(
      difference(
        Array.from(v?.stored.dataSync() ?? []),
        expected.map((value) => value / 4),
      ),
    ).toBeLessThan(1e-5);
    expect(memory().numTensors).toBe(before);
    expect(() => handle.setMeanDifference(() => {}, runs(last))).toThrow(/did not run the model/);
    expect(() => handle.setMeanDifference(runs(last), runs(last), { strength: Number.NaN })).toThrow(/strength/);
  });

  it('finds the attention layers of any module', () => {
    const rng = new Rng(1);
    const blocks = new Stack([0, 1].map((i) => new TransformerBlock(8, { heads: 2, rng: rng.fork(i) })));
    const handle = attach(blocks, lofit());
    expect(handle.heads).toEqual([
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ]);
    expect(handle.describe()[0]).toEqual({
      path: 'blocks.0.attn.out_proj',
      adapter: 'default',
      layer: 'Linear',
      r: 2,
      scaling: 1,
      parameters: 8,
      baseParameters: 64,
    });
    expect(handle.trainableFraction).toBeCloseTo(16 / blocks.parameters().reduce((n, { size }) => n + size, 0), 8);
    handle.unload();
    const plain = new Sequential([new Linear(8, 8, { rng })]);
    expect(() => attach(plain, lofit())).toThrow(/no attention output projection/);
    expect(() => attach(plain, lofit({ projections: ['0'] }))).toThrow(/set numHeads/);
    expect(() => attach(plain, lofit({ projections: ['0'], numHeads: 3 }))).toThrow(/3 heads do not divide/);
    expect(attach(plain, lofit({ projections: ['0'], numHeads: 4 })).heads).toHaveLength(4);
    expect(attach(new MultiHeadAttention(8, { heads: 4, rng }), lofit()).heads).toHaveLength(4);
  });

  it('trains beside LoRA, but not on one projection', () => {
    const handle = attach(model, lofit());
    const other = attach(model, lora({ targetModules: ['q_proj'] }));
    expect([...model.trainableParameters().keys()].filter((name) => name.includes('lofit'))).toHaveLength(2);
    expect(handle.parameters().size).toBe(2);
    expect(other.parameters().size).toBe(4);
    expect(() => other.add('second', { targetModules: ['o_proj'] })).toThrow(/carries another adapter \(lofit\)/);
    expect(() => attach(model, lofit())).toThrow(/carries another adapter \(lofit\)/);
    handle.unload();
    other.add('second', { targetModules: ['o_proj'] });
    expect(() => attach(model, lofit())).toThrow(/LoraLinear.*excludeModules/);
    other.unload();
    expect(model.trainableParameters().size).toBe(model.parameters().length);
  });

  it('takes only files made for this model', async () => {
    const folder = join(dir, 'files');
    const handle = attach(model, lofit({ heads: [[1, 2]] }));
    await handle.save(folder, { baseModel: 'base' });
    const path = join(folder, 'adapter_config.json');
    const json = JSON.parse(await readFile(path, 'utf8'));
    expect(json).toMatchObject({ peft_type: 'LOFIT', base_model_name_or_path: 'base', heads: [[1, 2]] });
    handle.unload();
    const all = attach(model, lofit());
    await expect(all.load(folder)).rejects.toThrow(FormatError);
    all.unload();
    for (const [change, error] of [
      [{ peft_type: 'LORA' }, FormatError],
      [{ peft_type: 'MAGIC' }, FormatError],
      [{ heads: [[1, 9]] }, ConfigError],
      [{ heads: 'all' }, ConfigError],
      [{ heads: [] }, ConfigError],
      [{ scale: 'yes' }, ConfigError],
      [{ scale: true }, FormatError],
      [{ surprise: 1 }, FormatError],
    ] as const) {
      await writeFile(path, JSON.stringify({ ...json, ...change }));
      await expect(loadLofit(model, folder)).rejects.toThrow(error);
      expect(run()).toHaveLength(66);
    }
    expect([...model.namedModules()].some(([, module]) => module instanceof LofitHeads)).toBe(false);
  });

  it.each([
    [{ heads: [] }, /heads is \[\]/],
    [{ heads: [[0, -1]] }, /heads is \[\[0,-1\]\]/],
    [
      {
        heads: [
          [0, 1],
          [0, 1],
        ],
      },
      /\[0,1\] twice/,
    ],
    [{ offset: false }, /nothing would train/],
    [{ initStd: -1 }, /initStd is -1/],
    [{ numHeads: 0 }, /numHeads is 0/],
    [{ projections: 'o_proj' }, /projections is "o_proj"/],
    [{ scale: 1 }, /scale is 1; it must be true or false/],
  ] as unknown as [LofitConfig, RegExp][])('refuses %o', (config, message) => {
    expect(() => lofit(config)).toThrow(ConfigError);
    expect(() => lofit(config)).toThrow(message);
  });

  it('refuses heads that the model does not have, and merging what is not finite', () => {
    expect(() => attach(model, lofit({ heads: [[2, 0]] }))).toThrow(/no head \[2, 0\].*2 attention layers of 4 heads/);
    expect(() => attach(model, lofit({ heads: [[0, 4]] }))).toThrow(ConfigError);
    const handle = attach(model, lofit({ heads: [[0, 0]] }));
    const before = run();
    for (const parameter of handle.parameters().values()) {
      parameter.assign(reshape(tensor([Number.NaN, 0, 0, 0, 0, 0]), [1, 6]));
    }
    expect(() => handle.merge({ safe: true })).toThrow(NumericsError);
    handle.unload();
    expect(difference(run(), before)).toBeLessThan(0.01);
    expect(() => attach(model, lofit({ scale: false })).scores()).toThrow(/scale: true/);
  });

  it('leaves no tensor behind', async () => {
    run();
    const before = memory().numTensors;
    for (const config of CONFIGS) {
      const handle = attach(model, lofit(config));
      disturb(handle);
      run();
      handle.merge();
      await handle.save(join(dir, 'leaks'));
      await handle.load(join(dir, 'leaks'));
      handle.merge();
      handle.unload();
    }
    expect(memory().numTensors).toBe(before);
  });
});

describe('dpoLoss', () => {
  it('is the loss and margin of direct preference optimisation', () => {
    const [chosen, rejected, refChosen, refRejected] = [
      [-1, -4],
      [-3, -2],
      [-2, -3],
      [-2.5, -3],
    ].map((x) => tensor(x));
    const margins = [0.5 * (1 + 0.5), 0.5 * (-1 - 1)];
    const { loss, margin } = dpoLoss(chosen, rejected, refChosen, refRejected);
    expect(difference(Array.from(margin.dataSync()), margins)).toBeLessThan(1e-6);
    const expected = margins.reduce((total, m) => total + Math.log(1 + Math.exp(-m)), 0) / 2;
    expect(loss.dataSync()[0]).toBeCloseTo(expected, 6);
    gradCheck((a, b) => dpoLoss(a, b, refChosen, refRejected).loss, [chosen, rejected]);
    expect(() => dpoLoss(chosen, rejected, refChosen, refRejected, 0)).toThrow(/beta is 0/);
  });
});
