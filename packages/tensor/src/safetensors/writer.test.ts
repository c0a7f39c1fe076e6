import '@tensorflow/tfjs-backend-cpu';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { complex, memory, setBackend, type Tensor, tensor, zeros } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import adapter from '../../test/fixtures/peft-adapter.json' with { type: 'json' };
import { ConfigError, FormatError } from '../errors.ts';
import { byteLengthOf, DTYPE_BITS, DTYPES, type SafetensorsDtype } from './dtype.ts';
import { loadSafetensors, openSafetensors } from './reader.ts';
import { readShardIndex } from './shard-index.ts';
import { bytesSource } from './source.ts';
import { rejection, temporaryFolder } from './testing.ts';
import { type SaveSafetensorsOptions, saveSafetensors, serializeSafetensors, type TensorBytes } from './writer.ts';

beforeAll(() => setBackend('cpu'));

const headerOf = (file: Uint8Array): string => {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  return new TextDecoder().decode(file.subarray(8, 8 + length));
};

const dtypes = fc.constantFrom(...DTYPES);
const shapes = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 });
const tensorBytes: fc.Arbitrary<TensorBytes> = fc
  .tuple(dtypes, shapes)
  // Sub-byte elements come in fours, which fill whole bytes.
  .map(([dtype, shape]) => ({ dtype, shape: DTYPE_BITS[dtype] < 8 ? [...shape, 4] : shape }))
  .chain(({ dtype, shape }) => {
    const { byteLength } = byteLengthOf(dtype, shape) as { byteLength: number };
    const data = fc.uint8Array({ minLength: byteLength, maxLength: byteLength });
    return data.map((data) => ({ dtype, shape, data }));
  });
const names = fc.string({ unit: 'binary', maxLength: 8 }).filter((name) => !name.startsWith('__'));
const files = fc.uniqueArray(fc.tuple(names, tensorBytes), { selector: ([name]) => name, maxLength: 6 });

describe('serializeSafetensors', () => {
  it('writes the bytes that the official library writes', async () => {
    const official = Buffer.from(adapter.base64, 'base64');
    const tensors = await loadSafetensors(official);
    expect(Buffer.from(serializeSafetensors([...tensors].reverse())).equals(official)).toBe(true);
    for (const tensor of tensors.values()) tensor.dispose();
  });

  it('sorts by descending alignment, then by name in UTF-8 order, and pads the header to 8 bytes', () => {
    const empty = (dtype: SafetensorsDtype): TensorBytes => ({ dtype, shape: [0], data: new Uint8Array(0) });
    const tensors: [string, TensorBytes][] = [
      ['a', empty('BOOL')],
      ['\u{10000}', empty('F32')],
      ['\uffff', empty('F32')],
      ['b', empty('F16')],
      ['bb', empty('BF16')],
      ['aa', empty('F32')],
      ['a0', empty('I64')],
      ['c', empty('F64')],
    ];
    const header = headerOf(serializeSafetensors(tensors, { metadata: { k: 'v' } }));
    expect(Object.keys(JSON.parse(header))).toEqual([
      '__metadata__',
      'a0',
      'c',
      'aa',
      '\uffff',
      '\u{10000}',
      'bb',
      'b',
      'a',
    ]);
    expect(new TextEncoder().encode(header).length % 8).toBe(0);
    expect(header).toMatch(
      /^\{"__metadata__":\{"k":"v"\},"a0":\{"dtype":"I64","shape":\[0\],"data_offsets":\[0,0\]\},.*\} *$/,
    );
  });

  it('stores tensors as asked, and no tensor is left behind', async () => {
    const before = memory().numTensors;
    const tensors: [string, Tensor][] = [
      ['w', tensor([[1, 1 / 3]])],
      ['b', tensor([1 + 2 ** -9])],
      ['i', tensor([[-7]], undefined, 'int32')],
      ['m', tensor([true, false, true])],
      ['s', tensor(2.5)],
    ];
    const dtype = (name: string): 'F16' | 'BF16' | 'F32' => (name === 'w' ? 'F16' : name === 'b' ? 'BF16' : 'F32');
    const bytes = serializeSafetensors(tensors, { dtype });
    const file = await openSafetensors(bytes);
    expect(Object.fromEntries([...file.tensors].map(([name, info]) => [name, info.dtype]))).toEqual({
      w: 'F16',
      b: 'BF16',
      i: 'I32',
      m: 'BOOL',
      s: 'F32',
    });
    const loaded = await loadSafetensors(bytes);
    expect(await loaded.get('w')!.array()).toEqual([[1, 0.333251953125]]);
    expect(await loaded.get('b')!.array()).toEqual([1]);
    expect(await loaded.get('i')!.array()).toEqual([[-7]]);
    expect(await loaded.get('m')!.array()).toEqual([1, 0, 1]);
    expect(await loaded.get('s')!.array()).toBe(2.5);
    for (const [, tensor] of tensors) tensor.dispose();
    for (const tensor of loaded.values()) tensor.dispose();
    expect(memory().numTensors).toBe(before);
  });

  it('names what the format cannot hold', () => {
    const one = { dtype: 'U8', shape: [1], data: Uint8Array.of(1) } as const;
    const failing = (
      tensors: [string, TensorBytes | Tensor][],
      options: SaveSafetensorsOptions,
      message: string,
    ): void => {
      expect(() => serializeSafetensors(tensors, options)).toThrow(ConfigError);
      expect(() => serializeSafetensors(tensors, options)).toThrow(message);
    };
    failing(
      [
        ['a', one],
        ['a', one],
      ],
      {},
      '"a" is given twice',
    );
    failing([['__metadata__', one]], {}, 'reserves');
    failing([['__proto__', one]], {}, 'any well-formed string');
    failing([['\ud800', one]], {}, 'any well-formed string');
    failing([['a', { ...one, shape: [2] }]], {}, 'needs a Uint8Array of 2');
    failing([['a', { ...one, shape: [-1] }]], {}, 'dimension 0 is -1');
    failing([['a', { ...one, dtype: 'F31' as 'U8' }]], {}, 'it may be BOOL');
    failing([['a', undefined as unknown as Tensor]], {}, 'it may be a tensor or');
    failing([], { metadata: { epoch: 3 as unknown as string } }, 'metadata "epoch" is 3');
    const [real, imaginary] = [zeros([1]), zeros([1])];
    const complexTensor = complex(real, imaginary);
    failing([['a', real]], { dtype: 'F64' as 'F32' }, 'it may be "F32", "F16" or "BF16"');
    failing([['a', complexTensor]], {}, 'only float32, int32 and bool');
    for (const tensor of [real, imaginary, complexTensor]) tensor.dispose();
  });

  it('is read back equal: any names, dtypes, shapes and bytes', async () => {
    await fc.assert(
      fc.asyncProperty(files, fc.dictionary(names, names), async (tensors, metadata) => {
        const file = await openSafetensors(serializeSafetensors(tensors, { metadata }));
        expect(file.metadata).toEqual({ ...metadata });
        expect(file.names.length).toBe(tensors.length);
        for (const [name, { dtype, shape, data }] of tensors) {
          expect(file.tensors.get(name)).toEqual({ dtype, shape, byteLength: data.length });
          expect(await file.raw(name)).toEqual(data);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('a mutated file', () => {
  const index = fc.nat({ max: 1 << 20 });
  const mutations = fc.oneof(
    fc.record({ kind: fc.constant('flip' as const), at: index, bit: fc.nat({ max: 7 }) }),
    fc.record({ kind: fc.constant('truncate' as const), at: index }),
    fc.record({
      kind: fc.constant('splice' as const),
      at: index,
      remove: fc.nat({ max: 8 }),
      insert: fc.uint8Array({ maxLength: 8 }),
    }),
    fc.record({
      kind: fc.constant('header' as const),
      at: index,
      token: fc.constantFrom(
        '"',
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        '-',
        '9',
        '0',
        '.',
        'e9',
        '\\u0061',
        'null',
        '"__proto__":1,',
      ),
    }),
  );
  type Mutation = typeof mutations extends fc.Arbitrary<infer T> ? T : never;

  function mutate(file: Uint8Array, mutation: Mutation): Uint8Array {
    const bytes = Array.from(file);
    const at = mutation.at % Math.max(1, bytes.length);
    switch (mutation.kind) {
      case 'flip':
        bytes[at] ^= 1 << mutation.bit;
        return Uint8Array.from(bytes);
      case 'truncate':
        return file.slice(0, at);
      case 'splice':
        bytes.splice(at, mutation.remove, ...mutation.insert);
        return Uint8Array.from(bytes);
      case 'header': {
        // Keeps the length field true, so that the edit reaches the JSON and what it says.
        if (file.length < 8) return file;
        const header = headerOf(file);
        const cut = mutation.at % (header.length + 1);
        const edited = new TextEncoder().encode(header.slice(0, cut) + mutation.token + header.slice(cut + 1));
        const data = file.subarray(8 + new TextEncoder().encode(header).length);
        const result = new Uint8Array(8 + edited.length + data.length);
        new DataView(result.buffer).setBigUint64(0, BigInt(edited.length), true);
        result.set(edited, 8);
        result.set(data, 8 + edited.length);
        return result;
      }
    }
  }

  it('as an index gives a FormatError or a valid result', async () => {
    const text =
      '{"metadata":{"total_size":8},"weight_map":{"a":"model-1.safetensors","b.\\u0063":"sub/model-2.safetensors"}}';
    const index = new TextEncoder().encode(text);
    await fc.assert(
      fc.asyncProperty(fc.array(mutations, { minLength: 1, maxLength: 3 }), async (edits) => {
        const bytes = edits.filter(({ kind }) => kind !== 'header').reduce(mutate, index as Uint8Array);
        try {
          const { weightMap } = await readShardIndex(bytesSource(bytes, 'index'));
          for (const shard of weightMap.values()) expect(join('/folder', shard)).toMatch(/^\/folder\/[^/]/);
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('gives a FormatError or a valid result, of no more bytes than the file', async () => {
    let refused = 0;
    let opened = 0;
    await fc.assert(
      fc.asyncProperty(files, fc.array(mutations, { minLength: 1, maxLength: 3 }), async (tensors, edits) => {
        const before = memory().numTensors;
        const bytes = edits.reduce(mutate, serializeSafetensors(tensors) as Uint8Array);
        try {
          const file = await openSafetensors(bytes);
          const total = [...file.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
          expect(total).toBeLessThan(bytes.length);
          for (const [name, { byteLength }] of file.tensors) expect((await file.raw(name)).length).toBe(byteLength);
          opened++;
          for (const tensor of (await loadSafetensors(bytes)).values()) tensor.dispose();
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
          refused++;
        }
        expect(memory().numTensors).toBe(before);
      }),
      { numRuns: 1500 },
    );
    expect(Math.min(refused, opened)).toBeGreaterThan(50);
  });
});

describe('saveSafetensors', () => {
  it('writes what serializeSafetensors gives, and replaces a file only when all is written', async () => {
    const folder = await temporaryFolder();
    const path = join(folder, 'model.safetensors');
    const [good, gone] = [tensor([1, 2, 3]), tensor([4])];
    await saveSafetensors(path, [['w', good]]);
    const written = await readFile(path);
    expect(written.equals(serializeSafetensors([['w', good]]))).toBe(true);
    gone.dispose();
    const both: [string, Tensor][] = [
      ['w', good],
      ['x', gone],
    ];
    expect((await rejection(saveSafetensors(path, both))).message).toContain('disposed');
    expect((await readFile(path)).equals(written)).toBe(true);
    expect(await readdir(folder)).toEqual(['model.safetensors']);
    good.dispose();
  });

  it('can replace the file that it copies from', async () => {
    const path = join(await temporaryFolder(), 'model.safetensors');
    await writeFile(path, serializeSafetensors([['a', { dtype: 'U8', shape: [2], data: Uint8Array.of(1, 2) }]]));
    const file = await openSafetensors(path);
    await saveSafetensors(path, [['b', { ...file.tensors.get('a')!, data: await file.raw('a') }]]);
    expect(await file.raw('a')).toEqual(Uint8Array.of(1, 2));
    await file.close();
    const renamed = await openSafetensors(path);
    expect(renamed.names).toEqual(['b']);
    await renamed.close();
  });
});
