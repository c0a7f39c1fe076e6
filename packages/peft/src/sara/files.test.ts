import '@ashlar/backend-ort';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  FormatError,
  memory,
  Rng,
  saveSafetensors,
  setBackend,
  type Tensor,
  tensor,
  tensor1d,
  tidy,
  zeros,
} from '@ashlar/tensor';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { attach } from '../method.ts';
import type { SaraConfig } from './config.ts';
import { bits, Net, numbers, outputs } from './net.testing.ts';
import { loadSara, sara } from './sara.ts';

let dir: string;
let net: Net;
const run = (): number[] => outputs(net);

beforeAll(async () => {
  await setBackend('ort');
  dir = await mkdtemp(join(tmpdir(), 'sara-'));
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(() => {
  net = new Net().eval();
  vi.spyOn(console, 'warn').mockImplementation(() => {});
});
afterEach(() => vi.restoreAllMocks());

describe('the files of SaRA', () => {
  const config: SaraConfig = { fraction: 0.2, include: ['q_proj', 'conv'] };
  const CONFIG = 'adapter_config.json';

  it('hold the values, and load onto exactly the base that they were made for', async () => {
    const folder = join(dir, 'foreign');
    const handle = attach(net, sara(config));
    await handle.save(folder, { baseModel: 'base' });
    const json = JSON.parse(await readFile(join(folder, CONFIG), 'utf8'));
    const places = handle.values.get('q_proj.weight')?.size;
    expect(json).toMatchObject({
      peft_type: 'SARA',
      base_model_name_or_path: 'base',
      threshold: handle.threshold,
      base: { 'q_proj.weight': { count: places, checksum: expect.stringMatching(/^[0-9a-f]{8}$/) } },
    });
    expect(Object.keys(json)).not.toContain('fraction');
    handle.unload();
    const other = new Net();
    const weight = other.conv.weight.stored.dataSync().slice();
    const largest = weight.findIndex((value) => Math.abs(value) === Math.max(...weight.map(Math.abs)));
    weight[largest] *= 1 + 2 ** -20;
    other.conv.weight.assign(tensor(weight, other.conv.weight.shape));
    await expect(loadSara(other, folder)).rejects.toThrow(/made for other base weights: conv\.weight/);
    await expect(loadSara(new Net(new Rng(8)), folder)).rejects.toThrow(
      /selected entries in the file, \d+ in the model/,
    );
    expect(other.trainableParameters().size).toBe(other.parameters().length);
    const wider = attach(net, sara({ ...config, fraction: 0.5 }));
    const before = run();
    await expect(wider.load(folder)).rejects.toThrow(FormatError);
    expect(run()).toEqual(before);
    wider.unload();
    const random = attach(net, sara({ ...config, selection: 'random' }));
    await expect(random.load(folder)).rejects.toThrow(/made for other base weights|selected entries/);
  });

  it('are refused with one FormatError that names them, whatever stands in the config', async () => {
    const folder = join(dir, 'fuzz');
    const handle = attach(net, sara(config));
    await handle.save(folder);
    handle.unload();
    const path = join(folder, CONFIG);
    const text = await readFile(path, 'utf8');
    const json = JSON.parse(text);
    const before = bits(net);
    const loaded = async (change: object): Promise<unknown> => {
      await writeFile(path, JSON.stringify({ ...json, ...change }));
      try {
        (await loadSara(net, folder)).unload();
        return undefined;
      } catch (error) {
        return error;
      }
    };
    for (const change of [
      { peft_type: 'LORA' },
      { threshold: -1 },
      { threshold: 1e-30 },
      { threshold: null },
      { include: 7 },
      { include: '(' },
      { include: ['nothing'] },
      { base: null },
      { base: [] },
      { base: {} },
      { base: { ...json.base, more: { count: 1, checksum: '' } } },
      { base: { ...json.base, 'q_proj.weight': { count: 0, checksum: '' } } },
      { count: 3 },
      { surprise: 1 },
    ]) {
      expect(await loaded(change), JSON.stringify(change)).toBeInstanceOf(FormatError);
    }
    const field = fc.constantFrom(...Object.keys(json).filter((name) => !/^(task|inference|base_model)/.test(name)));
    await fc.assert(
      fc.asyncProperty(field, fc.jsonValue(), async (name, value) => {
        const error = await loaded({ [name]: value });
        if (error === undefined) return;
        expect(error).toBeInstanceOf(FormatError);
        expect((error as Error).message).toContain(folder);
      }),
      { numRuns: 150 },
    );
    await fc.assert(
      fc.asyncProperty(fc.string(), async (content) => {
        await writeFile(path, content);
        await expect(loadSara(net, folder)).rejects.toThrow(FormatError);
      }),
      { numRuns: 30 },
    );
    expect(bits(net)).toEqual(before);
    expect(net.trainableParameters().size).toBe(net.parameters().length);
  });

  it('are refused for tensors that are missing, foreign, of another size or type, or not finite', async () => {
    const folder = join(dir, 'tensors');
    const handle = attach(net, sara(config));
    await handle.save(folder);
    const start = run();
    const name = 'base_model.model.q_proj.weight.sara_values';
    const count = handle.values.get('q_proj.weight')?.size as number;
    const attempt = async (change: (tensors: Map<string, Tensor>) => void): Promise<void> => {
      const tensors = handle.stateDict();
      change(tensors);
      await saveSafetensors(join(folder, 'adapter_model.safetensors'), tensors);
      for (const value of tensors.values()) value.dispose();
      await handle.load(folder);
    };
    const replace = (value: Tensor) => (tensors: Map<string, Tensor>) => {
      tensors.get(name)?.dispose();
      tensors.set(name, value);
    };
    const before = memory().numTensors;
    for (const [change, message] of [
      [(tensors: Map<string, Tensor>) => tensors.get(name)?.dispose() ?? tensors.delete(name), /missing: .*q_proj/],
      [(tensors: Map<string, Tensor>) => tensors.set('other', zeros([1])), /unexpected: other/],
      [replace(zeros([count + 1])), /wrong shape/],
      [replace(zeros([count], 'int32')), /not finite numbers/],
      [replace(tensor1d([Number.NaN, ...Array(count - 1).fill(0)])), /not finite numbers/],
    ] as [(tensors: Map<string, Tensor>) => void, RegExp][]) {
      const failure = attempt(change);
      await expect(failure).rejects.toThrow(FormatError);
      await expect(failure).rejects.toThrow(message);
    }
    expect(memory().numTensors).toBe(before);
    expect(run()).toEqual(start);
    handle.merge();
    await expect(attempt(replace(zeros([count + 1])))).rejects.toThrow(FormatError);
    expect(handle.parameters().size).toBe(0);
    await attempt(replace(zeros([count])));
    expect(tidy(() => numbers(net.q_proj.weight.value)).filter((value) => value === 0)).toHaveLength(count);
    handle.unload();
    expect(run()).toEqual(start);
    await loadSara(net, folder).then((again) => again.unload());
    expect(run()).toEqual(start);
    await writeFile(join(folder, 'adapter_model.safetensors'), 'nothing');
    await expect(loadSara(net, folder)).rejects.toThrow(FormatError);
    expect(run()).toEqual(start);
  });
});
