import '@ashlar/backend-ort';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Alibi, Nope, PositionalScores, Rope, SelfExtend, Sinusoidal, T5RelativeBias } from '@ashlar/encodings';
import type { Linear } from '@ashlar/nn';
import {
  add,
  Buffer,
  ConfigError,
  FormatError,
  loadSafetensors,
  Module,
  memory,
  mul,
  ones,
  openSafetensors,
  Parameter,
  type PositionEncoding,
  Rng,
  replaceModule,
  reshape,
  setBackend,
  type Tensor,
} from '@ashlar/tensor';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { CausalLM } from './causal-lm.ts';
import { loadModel, saveModel } from './load.ts';
import { createModel } from './registry.ts';
import {
  checkpoint,
  GPT2,
  gpt2Weights,
  LLAMA,
  llamaWeights,
  safetensors,
  shardedCheckpoint,
  temporaryFolder,
} from './testing/checkpoint.ts';
import { expectClose, idsOf, logitsOf } from './testing/logits.ts';
import type { PlainTensor } from './testing/reference.ts';

beforeAll(() => setBackend('ort'));
afterEach(() => expect(memory().numTensors).toBe(0));

const IDS = [idsOf(11, 40)];
const WEIGHTS = llamaWeights(LLAMA);

/** The logits of the model in a folder. */
async function logitsIn(folder: string): Promise<number[][][]> {
  const model = await loadModel(folder);
  const logits = logitsOf(model, IDS);
  model.dispose();
  return logits;
}

/** An encoding with a buffer beside its parameter. */
class Shift extends Module implements PositionEncoding {
  readonly scale = new Parameter({ shape: [32], init: () => ones([32]) });
  readonly step = new Buffer({ shape: [1], init: () => ones([1]) });
  override forward(x: Tensor): Tensor {
    return x;
  }
  embed(positions: Tensor): Tensor {
    return mul(reshape(mul(positions, this.step.stored), [-1, 1]), this.scale.value);
  }
}

const readJson = async (path: string): Promise<Record<string, unknown>> => JSON.parse(await readFile(path, 'utf8'));

describe('loadModel', () => {
  it('reads shards and half precision, to the same logits', async () => {
    const expected = await logitsIn(await checkpoint(LLAMA, WEIGHTS));
    expect(await logitsIn(await shardedCheckpoint(LLAMA, WEIGHTS))).toEqual(expected);
    // The weights are numbers that both halves hold exactly.
    expect(await logitsIn(await checkpoint(LLAMA, WEIGHTS, 'F16'))).toEqual(expected);
    expect(await logitsIn(await checkpoint(LLAMA, WEIGHTS, 'BF16'))).toEqual(expected);
  });

  it('gives a model in evaluation mode and tells of its progress', async () => {
    const seen: [number, number, string][] = [];
    const model = await loadModel(await checkpoint(GPT2, gpt2Weights(GPT2)), {
      onProgress: (...progress) => seen.push(progress),
    });
    expect([...model.namedModules()].every(([, module]) => !module.training)).toBe(true);
    expect(seen.map(([done]) => done)).toEqual(seen.map((_, i) => i + 1));
    expect(seen.at(-1)?.slice(0, 2)).toEqual([28, 28]);
    expect(seen.map(([, , name]) => name)).toContain('transformer.wte.weight');
    model.dispose();
  });

  it('takes checkpoints of a bare Llama, with the frequencies that old ones carry', async () => {
    const config = { ...LLAMA, tie_word_embeddings: true };
    const weights = llamaWeights(config);
    const bare = new Map([...weights].map(([name, tensor]) => [name.replace(/^model\./, ''), tensor]));
    bare.set('layers.0.self_attn.rotary_emb.inv_freq', { shape: [4], values: [9, 9, 9, 9] });
    expect(await logitsIn(await checkpoint(config, bare))).toEqual(await logitsIn(await checkpoint(config, weights)));
  });
});

describe('saveModel', () => {
  it.each([
    ['llama', LLAMA, WEIGHTS, 'LlamaForCausalLM'],
    ['gpt2', GPT2, gpt2Weights(GPT2), 'GPT2LMHeadModel'],
  ])('writes a %s that loads to equal logits', async (_, config, weights, className) => {
    const source = await checkpoint(config, weights);
    const model = await loadModel(source);
    const expected = logitsOf(model, IDS);
    const folder = join(await temporaryFolder(), 'new', 'folder');
    await saveModel(model, folder);
    model.dispose();
    expect(await logitsIn(folder)).toEqual(expected);
    expect(await readJson(join(folder, 'config.json'))).toMatchObject({
      ...config,
      architectures: [className],
      torch_dtype: 'float32',
    });
    const [before, after] = [await loadSafetensors(source), await loadSafetensors(folder)];
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
    for (const tensor of [...before.values(), ...after.values()]) tensor.dispose();
  });

  it.each(['F16', 'BF16'] as const)('writes %s, within its rounding', async (dtype) => {
    const model = createModel({ ...LLAMA, initializer_range: 0.1 }, { rng: new Rng(1) }).eval();
    const folder = await temporaryFolder();
    await saveModel(model, folder, { dtype });
    expectClose(await logitsIn(folder), logitsOf(model, IDS), dtype === 'F16' ? 2e-3 : 2e-2);
    const file = await openSafetensors(folder);
    expect(new Set([...file.tensors.values()].map((tensor) => tensor.dtype))).toEqual(new Set([dtype]));
    await file.close();
    expect((await readJson(join(folder, 'config.json'))).torch_dtype).toBe({ F16: 'float16', BF16: 'bfloat16' }[dtype]);
    model.dispose();
  });

  it('writes a tied head once', async () => {
    const model = createModel({ ...LLAMA, tie_word_embeddings: true }, { rng: new Rng(1) });
    const folder = await temporaryFolder();
    await saveModel(model, folder);
    const file = await openSafetensors(folder);
    expect(file.names).toContain('model.embed_tokens.weight');
    expect(file.names).not.toContain('lm_head.weight');
    await file.close();
    model.dispose();
  });

  it('keeps every field of config.json, also those that it does not know', async () => {
    const config = {
      ...LLAMA,
      rope_scaling: { rope_type: 'linear', factor: 2 },
      bos_token_id: 1,
      eos_token_id: [2, 3],
      pretraining_tp: 1,
      note: { by: 'a stranger' },
    };
    const model = await loadModel(await checkpoint(config, WEIGHTS));
    const folder = await temporaryFolder();
    await saveModel(model, folder);
    expect(await readJson(join(folder, 'config.json'))).toMatchObject(config);
    model.dispose();
  });

  const GIVEN: Record<string, () => PositionEncoding> = {
    Alibi: () => new Alibi({ heads: 4 }),
    Nope: () => new Nope(),
    SelfExtend: () => new SelfExtend({ headDim: 8, window: 4, group: 2 }),
    Sinusoidal: () => new Sinusoidal({ dim: 32 }),
    Rope: () => new Rope({ headDim: 8, scaling: { rope_type: 'yarn', factor: 4 }, maxPositions: 8 }),
    T5RelativeBias: () => new T5RelativeBias({ heads: 4, rng: new Rng('drawn'), std: 1 }),
    Shift: () => new Shift(),
    Object: () => ({ embed: (positions) => mul(ones([positions.size, 32]), reshape(positions, [-1, 1])) }),
  };

  it.each(Object.keys(GIVEN).flatMap((name) => [LLAMA, GPT2].map((config) => ({ name, config }))))(
    'saves a $config.model_type that was given a $name, which loads with another alone',
    async ({ name, config }) => {
      const model = createModel({ ...config, initializer_range: 0.3 }, { rng: new Rng(1), encoding: GIVEN[name]() });
      // As trained weights: not those that a new encoding starts from.
      for (const [path, slot] of model.namedState()) {
        if (path.includes('.encoding.')) slot.assign(add(slot.stored, 1));
      }
      const folder = await temporaryFolder();
      await saveModel(model, folder);
      expect((await readJson(join(folder, 'config.json'))).position_encoding).toBe(name);
      const without = `${join(folder, 'config.json')}: position_encoding is "${name}"`;
      const plain = loadModel(folder);
      await expect(plain).rejects.toThrow(ConfigError);
      await expect(plain).rejects.toThrow(`${without}, whose options no config holds; pass { encoding }`);
      const other = loadModel(folder, {
        encoding: new PositionalScores({ maxPositions: 16, heads: 4, dim: 4, layers: 2, rng: new Rng(0) }),
      });
      await expect(other).rejects.toThrow(`${without}, whose options no config holds; pass { encoding } of that class`);
      await expect(other).rejects.toThrow('not a PositionalScores.');
      const again = await loadModel(folder, { encoding: GIVEN[name]() });
      expect(logitsOf(again, IDS)).toEqual(logitsOf(model.eval(), IDS));
      await saveModel(again, folder);
      expect((await readJson(join(folder, 'config.json'))).position_encoding).toBe(name);
      again.dispose();
      model.dispose();
    },
  );

  it('names no encoding that the config describes, and puts one in the place of that', async () => {
    const folder = await checkpoint(LLAMA, WEIGHTS);
    const own = await loadModel(folder);
    await saveModel(own, folder);
    expect(await readJson(join(folder, 'config.json'))).not.toHaveProperty('position_encoding');
    const other = await loadModel(folder, { encoding: new Nope() });
    expect(logitsOf(other, IDS)).not.toEqual(logitsOf(own, IDS));
    expect(other.config.position_encoding).toBe('Nope');
    expect(() => createModel(other.config, { rng: new Rng(0) })).toThrow('position_encoding is "Nope"');
    own.dispose();
    other.dispose();
  });

  it('refuses a model that wears an adapter', async () => {
    class Adapted extends Module {
      readonly base: Linear;
      constructor(base: Linear) {
        super();
        this.base = base;
      }
      override forward(x: Tensor): Tensor {
        return this.base.apply(x);
      }
    }
    const model = createModel(LLAMA, { rng: new Rng(1) });
    replaceModule(model, 'model.layers.0.self_attn.q_proj', (base) => new Adapted(base as Linear));
    const folder = await temporaryFolder();
    await expect(saveModel(model, folder)).rejects.toThrow(
      new ConfigError(
        'A LlamaForCausalLM has no model.layers.0.self_attn.q_proj.base.weight; merge adapters and parametrizations, ' +
          'then save.',
      ),
    );
    await expect(readFile(join(folder, 'config.json'))).rejects.toThrow('ENOENT');
  });
});

describe('what does not load is named, and leaves no tensor', () => {
  const failure = async (loading: Promise<CausalLM>): Promise<string> => {
    const error = await loading.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(FormatError);
    expect(memory().numTensors).toBe(0);
    return (error as FormatError).message;
  };

  it('no folder, no config, no weights', async () => {
    expect(await failure(loadModel('./no/such/folder'))).toContain("no folder './no/such/folder'");
    const folder = await temporaryFolder();
    expect(await failure(loadModel(folder))).toContain(join(folder, 'config.json'));
    await writeFile(join(folder, 'config.json'), JSON.stringify(LLAMA));
    expect(await failure(loadModel(folder))).toBe(
      `${folder} has no model.safetensors and no model.safetensors.index.json.`,
    );
  });

  it('a config.json that is no JSON, or no object', async () => {
    const folder = await checkpoint(LLAMA, WEIGHTS);
    const path = join(folder, 'config.json');
    for (const text of ['', '{', '\u0000\u0001', '[]', 'null', '"llama"', '3']) {
      await writeFile(path, text);
      expect(await failure(loadModel(folder))).toContain(path);
    }
  });

  it('an unknown model_type, with the closest known', async () => {
    const folder = await checkpoint({ ...LLAMA, model_type: 'lama2' }, WEIGHTS);
    expect(await failure(loadModel(folder))).toBe(
      `${join(folder, 'config.json')}: model_type is "lama2"; it must be one of llama, gpt2 (closest: llama).`,
    );
    for (const model_type of [undefined, null, 5, ['llama'], '__proto__', 'constructor']) {
      expect(await failure(loadModel(await checkpoint({ ...LLAMA, model_type }, WEIGHTS)))).toContain('model_type is');
    }
  });

  it('missing, unexpected and misshapen tensors, all at once', async () => {
    const weights = new Map<string, PlainTensor>(WEIGHTS);
    weights.delete('model.norm.weight');
    weights.delete('model.layers.1.mlp.up_proj.weight');
    weights.set('model.layers.1.mlp.upproj.weight', { shape: [2], values: [1, 2] });
    weights.set('model.layers.0.mlp.up_proj.weight', { shape: [1, 2], values: [1, 2] });
    weights.set('lm_head.weight', { shape: [3], values: [1, 2, 3] });
    const message = await failure(loadModel(await checkpoint(LLAMA, weights)));
    for (const part of [
      'model.safetensors',
      'missing: model.layers.1.mlp.up_proj.weight, model.norm.weight',
      'unexpected: model.layers.1.mlp.upproj.weight (did you mean model.layers.1.mlp.up_proj.weight?)',
      'model.layers.0.mlp.up_proj.weight is [1,2], the model has [40,32]',
      'lm_head.weight is [3], the model has [40,32]',
    ]) {
      expect(message).toContain(part);
    }
  });

  it('a tensor under two names', async () => {
    const weights = gpt2Weights(GPT2);
    weights.set('ln_f.bias', weights.get('transformer.ln_f.bias') as PlainTensor);
    expect(await failure(loadModel(await checkpoint(GPT2, weights)))).toContain(
      'holds transformer.ln_f.bias twice: as transformer.ln_f.bias and as ln_f.bias.',
    );
  });

  it('weights cut short, at any place', async () => {
    const folder = await checkpoint(LLAMA, WEIGHTS);
    const path = join(folder, 'model.safetensors');
    const { length } = safetensors(WEIGHTS);
    for (const size of [length - 1, Math.floor(length / 2), 1000, 8, 3, 0]) {
      await truncate(path, size);
      expect(await failure(loadModel(folder))).toContain(path);
    }
  });

  it('a missing shard', async () => {
    const folder = await shardedCheckpoint(LLAMA, WEIGHTS);
    await truncate(join(folder, 'model-00002-of-00002.safetensors'), 0);
    expect(await failure(loadModel(folder))).toContain('model-00002-of-00002.safetensors');
  });

  it('a name that is neither a folder nor a hub id', async () => {
    for (const name of ['./missing', '../missing', 'a/b/c', 'a b', 'owner/', 'https://example.org/model']) {
      expect(await failure(loadModel(name))).toContain(`no folder '${name}', and it is no hub id (owner/name)`);
    }
  });
});
