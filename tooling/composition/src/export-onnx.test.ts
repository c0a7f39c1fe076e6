import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exportOnnx, toOnnx } from '@ashlar/backend-ort';
import { Alibi, T5RelativeBias } from '@ashlar/encodings';
import { type CausalLM, createModel } from '@ashlar/models';
import { attach, lora } from '@ashlar/peft';
import { add, cast, memory, mul, ones, type PositionEncoding, Rng, setBackend, type Tensor } from '@ashlar/tensor';
import * as node from 'onnxruntime-node';
import * as web from 'onnxruntime-web';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const VOCAB = 23;
const rng = new Rng('export');
let folder: string;

beforeAll(async () => {
  await setBackend('ort');
  folder = await mkdtemp(join(tmpdir(), 'export-'));
});
afterAll(() => rm(folder, { recursive: true }));

const LLAMA = {
  model_type: 'llama',
  vocab_size: VOCAB,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 32,
  initializer_range: 0.3,
};
const GPT2 = { model_type: 'gpt2', vocab_size: VOCAB, n_embd: 16, n_head: 4, n_layer: 2, n_positions: 32 };

const ids = (batch: number, sequence: number): Tensor =>
  rng.fork(batch * 100 + sequence).integers([batch, sequence], 0, VOCAB);

/** Expect the file's logits in both runtimes to be the model's, for each size. */
async function expectSameLogits(model: CausalLM, file: string, sizes: readonly [number, number][]): Promise<void> {
  const native = await node.InferenceSession.create(file);
  const wasm = await web.InferenceSession.create(file);
  expect([native.inputNames, native.outputNames]).toEqual([['input_ids'], ['logits']]);
  for (const [batch, sequence] of sizes) {
    const input = ids(batch, sequence);
    const output = model.apply(input);
    const expected = output.dataSync<'float32'>();
    const data = Int32Array.from(input.dataSync());
    input.dispose();
    output.dispose();
    for (const [name, logits] of [
      ['node', (await native.run({ input_ids: new node.Tensor('int32', data, [batch, sequence]) })).logits],
      ['web', (await wasm.run({ input_ids: new web.Tensor('int32', data, [batch, sequence]) })).logits],
    ] as const) {
      expect(logits.dims, name).toEqual([batch, sequence, VOCAB]);
      const actual = logits.data as Float32Array;
      const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - actual[i])), 0);
      expect(worst, `${name}, batch ${batch}, sequence ${sequence}`).toBeLessThan(1e-4);
    }
  }
  await native.release();
  await wasm.release();
}

const dynamic = { input_ids: { 0: 'batch', 1: { name: 'sequence', max: 32 } } };

describe('exportOnnx', () => {
  it.each([
    ['llama', LLAMA, undefined],
    ['gpt2', GPT2, undefined],
    ['gpt2 with ALiBi', GPT2, () => new Alibi({ heads: 4 })],
    ['llama with T5 bias', LLAMA, () => new T5RelativeBias({ heads: 4, rng: rng.fork('t5') })],
  ] as [string, object, (() => PositionEncoding) | undefined][])(
    '%s with any batch and sequence',
    async (name, config, encoding) => {
      const before = memory().numTensors;
      const model = createModel(config, { rng: rng.fork(name), encoding: encoding?.() }).eval() as CausalLM;
      const example = ids(1, 8);
      const file = join(folder, 'dynamic.onnx');
      const { limits } = await exportOnnx(
        ({ input_ids }) => ({ logits: model.apply(input_ids) }),
        { input_ids: example },
        file,
        { dynamicAxes: dynamic },
      );
      expect(limits).toEqual({ sequence: 32 });
      await expectSameLogits(model, file, [
        [1, 1],
        [1, 32],
        [3, 7],
        [9, 20],
      ]);
      example.dispose();
      model.dispose();
      expect(memory().numTensors).toBe(before);
    },
  );

  it('a model with an adapter, at fixed sizes', async () => {
    const model = createModel(LLAMA, { rng: rng.fork('fixed') }) as CausalLM;
    const handle = attach(model, lora({ r: 2, targetModules: 'all-linear', initLoraWeights: false }));
    model.eval();
    const example = ids(2, 6);
    const file = join(folder, 'fixed.onnx');
    await exportOnnx(({ input_ids }) => ({ logits: model.apply(input_ids) }), { input_ids: example }, file);
    await expectSameLogits(model, file, [[2, 6]]);
    handle.unload();
    example.dispose();
    model.dispose();
  });

  it('refuses what a file cannot hold, and writes nothing', async () => {
    const before = memory().numTensors;
    const x = ones([2, 6]);
    const axes = { dynamicAxes: { x: { 1: 'n' } } };
    const expectError = async (fn: Parameters<typeof exportOnnx>[0], message: RegExp, options = {}) => {
      await expect(exportOnnx(fn, { x }, join(folder, 'refused.onnx'), options)).rejects.toThrow(message);
    };
    await expectError(({ x: a }) => ({ y: add(a, rng.normal([2, 6])) }), /draws random tensors/);
    await expectError(({ x: a }) => ({ y: mul(a, a.dataSync()[0]) }), /reads the values/);
    await expectError(({ x: a }) => ({ y: mul(a, 1 / (a.shape[1] as number)) }), /changes|cannot/, axes);
    await expectError(
      ({ x: a }) => ({ y: (a.shape[1] as number) % 2 ? add(a, a) : mul(a, a) }),
      /in another way at other sizes of n/,
      axes,
    );
    await expectError(({ x: a }) => ({ y: a }), /names axis 5/, { dynamicAxes: { x: { 5: 'n' } } });
    await expectError(({ x: a }) => ({ y: a }), /names the input 'z'/, { dynamicAxes: { z: { 0: 'n' } } });
    await expectError(({ x: a }) => ({ y: a }), /max of dynamic axis 'n' is 3/, {
      dynamicAxes: { x: { 1: { name: 'n', max: 3 } } },
    });
    const many = { 0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e' };
    const wide = ones([2, 2, 2, 2, 2]);
    expect(() => toOnnx(({ y }) => ({ y }), { y: wide }, { dynamicAxes: { y: many } })).toThrow(
      /a, b, c, d, e; it may have 4/,
    );
    wide.dispose();
    expect(await readdir(folder)).not.toContain('refused.onnx');
    x.dispose();
    expect(memory().numTensors).toBe(before);
  });

  it('names inputs and outputs as they are, passed through and constant ones, too', async () => {
    const x = ones([2, 6]);
    const { model, limits } = toOnnx(
      ({ x: a }) => ({ same: a, c0: cast(add(a, 1), 'int32'), constant: ones([3]) }),
      { x },
      { dynamicAxes: { x: { 1: 'n' } } },
    );
    expect(limits).toEqual({});
    const session = await node.InferenceSession.create(model);
    const out = await session.run({ x: new node.Tensor('float32', new Float32Array(18).fill(4), [2, 9]) });
    expect(out.same.dims).toEqual([2, 9]);
    expect(out.c0.data).toEqual(new Int32Array(18).fill(5));
    expect(out.constant.data).toEqual(new Float32Array(3).fill(1));
    await session.release();
    x.dispose();
  });
});
