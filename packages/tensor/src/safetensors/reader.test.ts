import '@tensorflow/tfjs-backend-cpu';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { memory, setBackend } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import adapter from '../../test/fixtures/peft-adapter.json' with { type: 'json' };
import { ConfigError, FormatError } from '../errors.ts';
import { loadSafetensors, openSafetensors } from './reader.ts';
import { fileOf, fileOfBytes, rejection, temporaryFolder } from './testing.ts';

beforeAll(() => setBackend('cpu'));

const bytesOf = (values: ArrayBufferView): number[] => [
  ...new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
];

const SMALL = fileOf(
  {
    __metadata__: { format: 'pt' },
    b: { dtype: 'F32', shape: [2], data_offsets: [4, 12] },
    a: { dtype: 'I16', shape: [1, 2], data_offsets: [0, 4] },
  },
  [...bytesOf(Int16Array.of(-3, 7)), ...bytesOf(Float32Array.of(1.5, -2))],
);

describe('openSafetensors', () => {
  it('describes the file and reads one tensor at a time', async () => {
    const file = await openSafetensors(SMALL);
    expect(file.metadata).toEqual({ format: 'pt' });
    expect(file.names).toEqual(['a', 'b']);
    expect([...file.tensors]).toEqual([
      ['a', { dtype: 'I16', shape: [1, 2], byteLength: 4 }],
      ['b', { dtype: 'F32', shape: [2], byteLength: 8 }],
    ]);
    expect(await file.raw('a')).toEqual(Uint8Array.of(253, 255, 7, 0));
    const tensor = await file.tensor('b');
    expect([tensor.dtype, tensor.shape, [...(await tensor.data())]]).toEqual(['float32', [2], [1.5, -2]]);
    tensor.dispose();
    await file.close();
    await file.close();
    expect((await rejection(file.raw('a'))).message).toContain('is closed');
  });

  it('reads the same from a path, a file: URL, a Blob, a File and an ArrayBuffer', async () => {
    const path = join(await temporaryFolder(), 'small.safetensors');
    await writeFile(path, SMALL);
    const blob = new Blob([SMALL]);
    for (const source of [path, pathToFileURL(path), pathToFileURL(path).href, blob, SMALL.buffer]) {
      const file = await openSafetensors(source);
      expect(await file.raw('b')).toEqual(Uint8Array.from(bytesOf(Float32Array.of(1.5, -2))));
      await file.close();
    }
  });

  it('gives bytes of its own, whatever the alignment of the source', async () => {
    const shifted = new Uint8Array(SMALL.length + 3);
    shifted.set(SMALL, 3);
    const source = shifted.subarray(3);
    const file = await openSafetensors(source);
    const [raw, tensor] = [await file.raw('b'), await file.tensor('b')];
    source.fill(0);
    raw.fill(9);
    expect([...(await tensor.data())]).toEqual([1.5, -2]);
    tensor.dispose();
  });

  it('reads what the official PEFT library writes', async () => {
    const tensors = await loadSafetensors(Buffer.from(adapter.base64, 'base64'));
    expect([...tensors.keys()].sort()).toEqual(Object.keys(adapter.tensors).sort());
    for (const [name, { shape, data }] of Object.entries(adapter.tensors)) {
      expect(tensors.get(name)!.shape).toEqual(shape);
      expect([...(await tensors.get(name)!.data())]).toEqual(data.map(Math.fround));
    }
    for (const tensor of tensors.values()) tensor.dispose();
  });

  it('widens or narrows each dtype to its tensor', async () => {
    const cases: [string, ArrayBufferView, string, number[]][] = [
      ['F64', Float64Array.of(0.1, 1e300), 'float32', [Math.fround(0.1), Infinity]],
      ['F16', Uint16Array.of(0x3c00, 0x0001), 'float32', [1, 2 ** -24]],
      ['BF16', Uint16Array.of(0x3f80, 0xc000), 'float32', [1, -2]],
      ['I64', BigInt64Array.of(-(2n ** 31n), 2n ** 31n - 1n), 'int32', [-(2 ** 31), 2 ** 31 - 1]],
      ['U64', BigUint64Array.of(0n, 5n), 'int32', [0, 5]],
      ['I32', Int32Array.of(-1, 8), 'int32', [-1, 8]],
      ['U32', Uint32Array.of(1, 8), 'int32', [1, 8]],
      ['U16', Uint16Array.of(1, 65535), 'int32', [1, 65535]],
      ['I8', Int8Array.of(-128, 127), 'int32', [-128, 127]],
      ['U8', Uint8Array.of(0, 255), 'int32', [0, 255]],
      ['BOOL', Uint8Array.of(0, 7), 'bool', [0, 1]],
    ];
    for (const [dtype, values, tensorDtype, expected] of cases) {
      const data = bytesOf(values);
      const tensors = await loadSafetensors(fileOf({ x: { dtype, shape: [2], data_offsets: [0, data.length] } }, data));
      const tensor = tensors.get('x')!;
      expect([dtype, tensor.dtype, [...(await tensor.data())]]).toEqual([dtype, tensorDtype, expected]);
      tensor.dispose();
    }
  });

  it('reads scalars, empty tensors and names that objects inherit', async () => {
    const file = fileOf(
      {
        constructor: { dtype: 'F32', shape: [0, 3], data_offsets: [0, 0] },
        toString: { dtype: 'U8', shape: [], data_offsets: [0, 1] },
      },
      [6],
    );
    const tensors = await loadSafetensors(file);
    expect(tensors.get('constructor')!.shape).toEqual([0, 3]);
    expect(await tensors.get('toString')!.array()).toBe(6);
    for (const tensor of tensors.values()) tensor.dispose();
  });

  it('leaves no tensor behind when a later one cannot be read', async () => {
    const data = [...bytesOf(Float32Array.of(1)), ...bytesOf(BigInt64Array.of(2n ** 31n))];
    const file = fileOf(
      {
        a: { dtype: 'F32', shape: [1], data_offsets: [0, 4] },
        b: { dtype: 'I64', shape: [1], data_offsets: [4, 12] },
      },
      data,
    );
    const before = memory().numTensors;
    const error = await rejection(loadSafetensors(file));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain('tensor "b": element 0 is 2147483648, which int32 cannot hold');
    expect(memory().numTensors).toBe(before);
  });

  it('names a tensor of a kind that has no tensor form', async () => {
    const file = await openSafetensors(fileOf({ w: { dtype: 'F8_E4M3', shape: [2], data_offsets: [0, 2] } }, [1, 2]));
    expect(await file.raw('w')).toEqual(Uint8Array.of(1, 2));
    expect((await rejection(file.tensor('w'))).message).toContain('F8_E4M3 values have no tensor form');
  });

  it('suggests names', async () => {
    const file = await openSafetensors(SMALL);
    expect((await rejection(file.raw('c'))).message).toContain('has no tensor "c". Did you mean "a", "b"?');
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'adapter_model.safetensors'), SMALL);
    await writeFile(join(folder, 'model.safetensors'), SMALL);
    const error = await rejection(openSafetensors(join(folder, 'modle.safetensors')));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain(
      'modle.safetensors: cannot be read: no such file. Did you mean "model.safetensors"',
    );
    expect((await rejection(openSafetensors(join(folder, 'no', 'x.safetensors')))).message).toContain('does not exist');
  });

  it('refuses sources that it cannot open', async () => {
    expect(await rejection(openSafetensors(new URL('ftp://host/model.safetensors')))).toBeInstanceOf(ConfigError);
    expect(await rejection(openSafetensors('http://'))).toBeInstanceOf(ConfigError);
    expect(await rejection(openSafetensors(7 as unknown as string))).toBeInstanceOf(ConfigError);
    expect((await rejection(openSafetensors('/dev/null'))).message).toContain('is not a file');
  });

  it('says in a browser that paths need Node', async () => {
    vi.spyOn(process, 'getBuiltinModule').mockReturnValue(undefined);
    const error = await rejection(openSafetensors('model.safetensors')).finally(() => vi.restoreAllMocks());
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain("model.safetensors needs Node's files");
  });
});

describe('a folder', () => {
  it('opens its one checkpoint, and asks when there are several', async () => {
    const folder = await temporaryFolder();
    expect((await rejection(openSafetensors(folder))).message).toContain('holds no safetensors files');
    await writeFile(join(folder, 'adapter_model.safetensors'), SMALL);
    const adapterFile = await openSafetensors(folder);
    expect(adapterFile.source).toBe(join(folder, 'adapter_model.safetensors'));
    await adapterFile.close();
    await writeFile(join(folder, 'other.safetensors'), SMALL);
    expect((await rejection(openSafetensors(folder))).message).toContain('holds 2 checkpoints');
    await writeFile(join(folder, 'model.safetensors'), SMALL);
    const model = await openSafetensors(folder);
    expect(model.source).toBe(join(folder, 'model.safetensors'));
    await model.close();
  });
});

describe('a sharded checkpoint', () => {
  const shard = (name: string, value: number): Uint8Array =>
    fileOf({ __metadata__: { format: 'pt' }, [name]: { dtype: 'U8', shape: [], data_offsets: [0, 1] } }, [value]);

  async function sharded(index: unknown): Promise<string> {
    const folder = await temporaryFolder();
    await mkdir(join(folder, 'sub'));
    await writeFile(join(folder, 'model-1.safetensors'), shard('a', 1));
    await writeFile(join(folder, 'sub', 'model-2.safetensors'), shard('b', 2));
    await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
    return folder;
  }

  it('opens as one', async () => {
    const folder = await sharded({
      metadata: { total_size: 2 },
      weight_map: { a: 'model-1.safetensors', b: 'sub/model-2.safetensors' },
    });
    for (const source of [folder, join(folder, 'model.safetensors.index.json')]) {
      const file = await openSafetensors(source);
      expect(file.names).toEqual(['a', 'b']);
      expect(file.metadata).toEqual({ format: 'pt', total_size: '2' });
      expect([await file.raw('a'), await file.raw('b')]).toEqual([Uint8Array.of(1), Uint8Array.of(2)]);
      await file.close();
    }
  });

  it.each([
    [{ a: 'model-3.safetensors' }, 'its shard "model-3.safetensors" cannot be opened'],
    [{ b: 'model-1.safetensors' }, 'places tensor "b" in "model-1.safetensors", which does not hold it'],
    [{ a: '../model-1.safetensors' }, 'tensor "a": its shard "../model-1.safetensors" is not the name of a file'],
    [{ a: 'sub/../../x' }, 'is not the name of a file'],
    [{ a: '/etc/passwd' }, 'is not the name of a file'],
    [{ a: 'C:\\x' }, 'is not the name of a file'],
    [{ a: 'https://host/x' }, 'is not the name of a file'],
    [{ a: '' }, 'is not the name of a file'],
    [{ a: 3 }, 'is not the name of a file'],
    [['a'], 'weight_map ["a"], not an object'],
  ])('refuses the weight map %j', async (weightMap, message) => {
    const folder = await sharded({ weight_map: weightMap });
    const error = await rejection(openSafetensors(folder));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain(join(folder, 'model.safetensors.index.json'));
    expect(error.message).toContain(message);
  });

  it('refuses a broken index', async () => {
    for (const index of [
      [],
      'x',
      {},
      { weight_map: {}, metadata: [] },
      { weight_map: {}, metadata: { total_size: '1' } },
    ]) {
      expect(await rejection(openSafetensors(await sharded(index)))).toBeInstanceOf(FormatError);
    }
  });
});

describe('a hostile file', () => {
  const f32 = (shape: unknown, offsets: unknown): string =>
    `{"x":{"dtype":"F32","shape":${JSON.stringify(shape)},"data_offsets":${JSON.stringify(offsets)}}}`;
  const ascii = (text: string): Uint8Array => Uint8Array.from(text, (char) => char.charCodeAt(0));
  const four = [0, 0, 0, 0];
  const u8 = (begin: number, end: number): unknown => ({
    dtype: 'U8',
    shape: [end - begin],
    data_offsets: [begin, end],
  });

  const cases: [string, Uint8Array, string][] = [
    ['empty', new Uint8Array(0), 'has 0 bytes, fewer than the 8'],
    ['shorter than its length field', new Uint8Array(7), 'has 7 bytes, fewer than the 8'],
    ['a header of 0 bytes', fileOf(''), 'gives its header 0 bytes'],
    ['a header past the end', fileOfBytes(ascii('{}'), [], 3n), 'ends within its header'],
    ['a header over the limit', fileOfBytes(ascii('{}'), [], 100_000_001n), 'more than the 100000000'],
    ['a header of 2^53 + 1', fileOfBytes(ascii('{}'), [], 2n ** 53n + 1n), 'more than the 100000000'],
    ['a header of 2^64 - 1', fileOfBytes(ascii('{}'), [], 2n ** 64n - 1n), 'more than the 100000000'],
    ['malformed UTF-8', fileOfBytes(Uint8Array.of(0x7b, 0xff, 0x7d)), 'is not valid UTF-8'],
    ['a byte order mark', fileOf('\ufeff{}'), 'is not a JSON object'],
    ['malformed JSON', fileOf('{"a":}'), 'is not valid JSON'],
    ['an open string', fileOf('{"a'), 'is not valid JSON'],
    ['a trailing comma', fileOf('{"a":1,}'), 'is not valid JSON'],
    ['a list', fileOf([]), 'is not a JSON object'],
    ['leading spaces', fileOf(' {}'), 'is not a JSON object'],
    ['deep nesting', fileOf(`{"a":${'['.repeat(100_000)}`), 'nests deeper than 8 levels'],
    [
      'many small values',
      fileOf(`{"a":[${'[],'.repeat(2_000_001)}1]}`),
      'holds more than 2000000 keys, lists and objects',
    ],
    ['a key twice', fileOf('{"a":{}, "\\u0061" : {}}'), 'has the key "a" twice'],
    ['a nested key twice', fileOf('{"a":{"dtype":"F32","dtype":"F32"}}'), 'has the key "dtype" twice'],
    ['__proto__', fileOf('{"__proto__":{"dtype":"F32"}}'), 'has the key "__proto__"'],
    ['an escaped __proto__', fileOf('{"a":{"\\u005f_proto__":1}}'), 'has the key "__proto__"'],
    ['a tensor that is no object', fileOf({ x: [1] }), 'tensor "x": is described by [1]'],
    ['an unknown dtype', fileOf({ x: { dtype: 'F31', shape: [], data_offsets: [0, 0] } }), 'unknown dtype "F31"'],
    ['an inherited dtype', fileOf({ x: { dtype: 'toString', shape: [], data_offsets: [0, 0] } }), 'unknown dtype'],
    ['no dtype', fileOf({ x: { shape: [], data_offsets: [0, 0] } }), 'unknown dtype undefined'],
    ['no shape', fileOf({ x: { dtype: 'F32', data_offsets: [0, 0] } }), 'has the shape undefined'],
    ['a negative dimension', fileOf(f32([-1], [0, 4]), four), 'dimension 0 is -1'],
    ['a fractional dimension', fileOf(f32([2, 0.5], [0, 4]), four), 'dimension 1 is 0.5'],
    ['a dimension as text', fileOf(f32(['1'], [0, 4]), four), 'dimension 0 is "1"'],
    ['minus zero', fileOf('{"x":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'), 'not a whole number'],
    [
      'a huge dimension',
      fileOf('{"x":{"dtype":"F32","shape":[1e400],"data_offsets":[0,4]}}', four),
      'not a whole number',
    ],
    ['a dimension past 2^53', fileOf(f32([2 ** 53], [0, 4]), four), 'not a whole number'],
    ['an overflowing product', fileOf(f32([2 ** 32, 2 ** 32], [0, 4]), four), 'product of its dimensions is too large'],
    ['a wrong byte count', fileOf(f32([2], [0, 4]), four), 'has 4 bytes; F32 of shape [2] takes 8'],
    ['half a byte', fileOf({ x: { dtype: 'F4', shape: [1], data_offsets: [0, 0] } }), '4 bits do not fill whole bytes'],
    ['one offset', fileOf(f32([1], [4]), four), 'not two whole numbers'],
    ['a negative offset', fileOf(f32([1], [-4, 0]), four), 'not two whole numbers'],
    ['a fractional offset', fileOf(f32([1], [0.5, 4.5]), four), 'not two whole numbers'],
    ['reversed offsets', fileOf(f32([1], [4, 0]), four), 'run backwards'],
    ['an overlap', fileOf({ a: u8(0, 2), b: u8(1, 3) }, [1, 2, 3]), 'tensor "b": overlaps tensor "a"'],
    ['the same bytes twice', fileOf({ a: u8(0, 2), b: u8(0, 2) }, [1, 2]), 'tensor "b": overlaps tensor "a"'],
    [
      'a hole',
      fileOf({ a: u8(0, 1), b: u8(2, 3) }, [1, 2, 3]),
      'tensor "b": leaves a hole of 1 bytes after tensor "a"',
    ],
    ['a hole at the start', fileOf({ a: u8(1, 2) }, [1, 2]), 'leaves a hole of 1 bytes after the header'],
    ['truncated data', fileOf({ a: u8(0, 3) }, [1, 2]), 'tensor "a": ends at byte'],
    ['trailing bytes', fileOf({ a: u8(0, 1) }, [1, 2]), 'has 1 bytes after tensor "a" that belong to no tensor'],
    ['metadata that is no object', fileOf({ __metadata__: 'pt' }), 'has the __metadata__ "pt"'],
    ['null metadata', fileOf({ __metadata__: null }), 'has the __metadata__ null'],
    ['metadata of numbers', fileOf({ __metadata__: { epoch: 3 } }), '__metadata__ "epoch" = 3, not a string'],
    ['a Git LFS pointer', ascii('version https://git-lfs.github.com/spec/v1'), 'is a Git LFS pointer'],
    ['a PyTorch archive', ascii('PK\u0003\u0004 and so on'), 'is a zip archive'],
    ['a web page', ascii('<!doctype html>'), 'is a web page'],
  ];

  it.each(cases)('is refused: %s', async (_, bytes, message) => {
    const path = join(await temporaryFolder(), 'hostile.safetensors');
    await writeFile(path, bytes);
    const error = await rejection(openSafetensors(path));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain(message);
    expect(error.message.startsWith(path)).toBe(true);
    expect((await rejection(openSafetensors(bytes))).message).toContain(message);
  });

  it('is quoted in short', async () => {
    const name = 'n'.repeat(1e6);
    const error = await rejection(
      openSafetensors(fileOf({ [name]: { dtype: name, shape: [], data_offsets: [0, 0] } })),
    );
    expect(error.message.length).toBeLessThan(1000);
  });
});
