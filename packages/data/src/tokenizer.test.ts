import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ConfigError, FormatError } from '@ashlar/tensor';
import { Tokenizer as Library } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { trainBpe } from './bpe-trainer.ts';
import { loadTokenizer } from './load-tokenizer.ts';
import { StreamDecoder } from './stream-decoder.ts';
import { Tokenizer } from './tokenizer.ts';
import type { TokenizerConfig, TokenizerJson } from './tokenizer-json.ts';

const sentences = [
  "It's the end of the world as we know it, and I don't feel fine; they're 42 and we've 1,234 of them.",
  'Größe, naïveté, Ελληνικά, русский язык, 日本語の文章です。 👩‍👩‍👧 é é',
  '  indented\n\n\ttabs and  spaces \r\n',
];
const json = trainBpe(sentences, { vocabSize: 400, minFrequency: 1, specialTokens: ['<|endoftext|>', '<pad>'] });
const tokenizer = new Tokenizer(json);

/** Llama 3's kind: a split by regular expression, then bytes. */
const sequenceJson: TokenizerJson = {
  ...json,
  pre_tokenizer: {
    type: 'Sequence',
    pretokenizers: [
      {
        type: 'Split',
        pattern: { Regex: '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+|[^\\s\\p{L}\\p{N}]+' },
        behavior: 'Isolated',
        invert: false,
      },
      { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    ],
  },
};

/** Llama 2's kind: '▁' for spaces, which the first token loses, and bytes for what is not in the vocabulary. */
const metaspaceJson: TokenizerJson = {
  added_tokens: [{ id: 1, content: '<s>', special: true }],
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
  normalizer: {
    type: 'Sequence',
    normalizers: [
      { type: 'Prepend', prepend: '▁' },
      { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    ],
  },
  model: {
    type: 'BPE',
    unk_token: '<unk>',
    byte_fallback: true,
    fuse_unk: true,
    vocab: Object.fromEntries(
      [
        '<unk>',
        '<s>',
        ...Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`),
        '▁',
        'a',
        'b',
        '▁a',
        'ab',
      ].map((token, id) => [token, id]),
    ),
    merges: [
      ['▁', 'a'],
      ['a', 'b'],
    ],
  },
};
const metaspace = new Tokenizer(metaspaceJson, { bos_token: { content: '<s>' } });

const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ unit: 'grapheme', maxLength: 60 }),
  // Any UTF-16, lone surrogates included.
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 40 }).map((units) => String.fromCharCode(...units)),
  fc
    .array(
      fc.constantFrom(
        ' ',
        '\n',
        '\r\n',
        '\t',
        'a',
        "'s",
        '1',
        '\0',
        '\u0301',
        '😀',
        '<|endoftext|>',
        '\ufeff',
        '\u0085',
      ),
      {
        maxLength: 60,
      },
    )
    .map((parts) => parts.join('')),
);
const wellFormed = (text: string): string =>
  new TextDecoder('utf-8', { ignoreBOM: true }).decode(new TextEncoder().encode(text));
const all = { skipSpecialTokens: false };

describe('encode and decode', () => {
  it('give back any text, with lone surrogates as U+FFFD', () => {
    for (const each of [tokenizer, new Tokenizer(sequenceJson)]) {
      fc.assert(
        fc.property(anyText, (text) => {
          expect(each.decode(each.encode(text), all)).toBe(wellFormed(text));
        }),
        { numRuns: 300 },
      );
    }
  });

  it.each([
    ['emoji of several', '👩‍👩‍👧‍👦🏳️‍🌈'],
    ['a combining mark alone', '\u0301'],
    ['NFC', '\u00e9'],
    ['NFD', 'e\u0301'],
    ['NUL', 'a\0b'],
    ['CRLF', 'a\r\nb\rc\n'],
    ['a byte order mark', '\ufeffa'],
    ['long white space', ` ${' '.repeat(10_000)}\n${'\t'.repeat(999)}x`],
    ['nothing', ''],
  ])('keep %s', (_, text) => {
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });

  it('give the ids that the library gives without the memory of pre-tokens', () => {
    for (const description of [json, sequenceJson]) {
      const ours = new Tokenizer(description);
      const library = new Library({ normalizer: null, ...description }, {});
      fc.assert(
        fc.property(anyText, (text) => {
          // The library follows JavaScript in what is white space.
          fc.pre(!/[\ufeff\u0085]/.test(text));
          expect([...ours.encode(text)]).toEqual(library.encode(text).ids);
        }),
        { numRuns: 200 },
      );
    }
  });

  it.each([
    ['of bytes', tokenizer, 'ab'],
    ['of white space', tokenizer, ' '],
    ['that nothing splits', metaspace, 'ab '],
  ])('take work in proportion to the length of a line %s', (_, each, part) => {
    const timed = (count: number): number => {
      const times = Array.from({ length: 3 }, () => {
        const text = part.repeat(count);
        const start = process.cpuUsage();
        expect(each.decode(each.encode(text)) === text).toBe(true);
        return process.cpuUsage(start).user;
      });
      return Math.min(...times);
    };
    timed(4000);
    // In proportion it would be 16, quadratic 256.
    expect(timed(64_000) / timed(4000)).toBeLessThan(80);
  });

  it('turn special tokens in the text into their ids', () => {
    const ids = tokenizer.encode('end<|endoftext|>of');
    expect(ids).toContain(0);
    expect(tokenizer.decode(ids)).toBe('endof');
    expect(tokenizer.decode(ids, all)).toBe('end<|endoftext|>of');
  });

  it('give back any text where single bytes stand for what is not in the vocabulary', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        // '▁' stands for a space, and the text of a token for the token.
        fc.pre(!/[▁<]/.test(text));
        expect(metaspace.decode(metaspace.encode(text))).toBe(wellFormed(text));
      }),
    );
  });

  it('never clean up spaces', () => {
    const config = { clean_up_tokenization_spaces: true };
    expect(new Tokenizer(json, config).decode(tokenizer.encode("we ' ve , it . s"))).toBe("we ' ve , it . s");
  });

  it('skip ids that no token has', () => {
    expect(tokenizer.decode([...tokenizer.encode('a'), 9999, -100])).toBe('a');
    expect(tokenizer.decode([])).toBe('');
  });

  it('add special tokens where asked to', () => {
    const post_processor = {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<pad>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: {},
    };
    const adding = new Tokenizer({ ...json, post_processor });
    expect([...adding.encode('a', { addSpecialTokens: true })]).toEqual([1, ...adding.encode('a')]);
  });

  it('refuse what is not text or has no token', () => {
    expect(() => tokenizer.encode(undefined as unknown as string)).toThrow(ConfigError);
    const wordPiece = new Tokenizer({ model: { type: 'WordPiece', vocab: { a: 0 }, unk_token: '[UNK]' } });
    expect(() => wordPiece.encode('b')).toThrow(ConfigError);
  });
});

describe('streamDecoder', () => {
  it('gives out, piece by piece, what decode gives', () => {
    for (const each of [tokenizer, metaspace]) {
      const ids = fc.array(fc.integer({ min: 0, max: each.vocabSize }), { maxLength: 30 });
      fc.assert(
        fc.property(
          fc.oneof(
            ids,
            anyText.map((text) => [...each.encode(text)]),
          ),
          fc.boolean(),
          (ids, skipSpecialTokens) => {
            const decoder = each.streamDecoder({ skipSpecialTokens });
            const pieces = ids.map((id) => decoder.push(id));
            expect(pieces.join('') + decoder.end()).toBe(each.decode(ids, { skipSpecialTokens }));
            expect(decoder.end()).toBe('');
          },
        ),
        { numRuns: 300 },
      );
    }
  });

  it('never gives out half a character, and never waits without need', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
        fc.pre(!text.includes('\ufffd'));
        const decoder = tokenizer.streamDecoder();
        const bytes = tokenizer.encode(text);
        let given = '';
        bytes.forEach((id, i) => {
          given += decoder.push(id);
          expect(given).toBe(tokenizer.decode(bytes.subarray(0, i + 1)).replace(/\ufffd+$/, ''));
        });
        expect(decoder.end()).toBe('');
      }),
    );
  });

  it('takes no longer for a token the more have come before', () => {
    const ends = fc.constantFrom('a', ' ', 'é', '😀', '\ufffd');
    fc.assert(
      fc.property(fc.array(fc.oneof(ends, fc.constant(0xff)), { minLength: 50, maxLength: 200 }), (parts) => {
        const bytes = parts.flatMap((part) =>
          typeof part === 'number' ? [part] : [...new TextEncoder().encode(part)],
        );
        const toText = (ids: readonly number[]): string => new TextDecoder().decode(Uint8Array.from(ids));
        let longest = 0;
        const decoder = new StreamDecoder((ids) => {
          longest = Math.max(longest, ids.length);
          return toText(ids);
        });
        expect(bytes.map((byte) => decoder.push(byte)).join('') + decoder.end()).toBe(toText(bytes));
        expect(longest).toBeLessThanOrEqual(8);
      }),
    );
  });

  it('keeps the spaces that a first token loses', () => {
    const ids = metaspace.encode('ab a😀b  a');
    const decoder = metaspace.streamDecoder();
    expect([...ids].map((id) => decoder.push(id)).join('')).toBe('ab a😀b  a');
  });
});

describe('special tokens', () => {
  it('have their usual names where no config names them', () => {
    expect(tokenizer).toMatchObject({ bosTokenId: 0, eosTokenId: 0, padTokenId: 1, vocabSize: 400 });
    expect(metaspace).toMatchObject({ bosTokenId: 1, eosTokenId: undefined, padTokenId: undefined });
  });

  it('are those that the config names', () => {
    const named = new Tokenizer(json, { bos_token: null, eos_token: '<pad>', pad_token: { content: '<|endoftext|>' } });
    expect(named).toMatchObject({ bosTokenId: undefined, eosTokenId: 1, padTokenId: 0 });
  });

  it('are looked up both ways', () => {
    expect(tokenizer.tokenToId('<pad>')).toBe(1);
    expect(tokenizer.idToToken(1)).toBe('<pad>');
    expect(tokenizer.tokenToId('no such token')).toBeUndefined();
    expect(tokenizer.idToToken(400)).toBeUndefined();
  });
});

describe('loadTokenizer', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ashlar-tokenizer-'));
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(json));
  });
  afterAll(() => rm(folder, { recursive: true }));
  const ids = [...tokenizer.encode(sentences[0])];

  it('reads a folder, a file, bytes and an object', async () => {
    const file = join(folder, 'tokenizer.json');
    const sources = [folder, file, pathToFileURL(folder), new TextEncoder().encode(JSON.stringify(json)), json];
    for (const source of sources) expect([...(await loadTokenizer(source)).encode(sentences[0])]).toEqual(ids);
  });

  it('reads tokenizer_config.json where there is one', async () => {
    const config = join(folder, 'tokenizer_config.json');
    await writeFile(config, '{"eos_token": {"content": "<pad>"}}');
    expect((await loadTokenizer(folder)).eosTokenId).toBe(1);
    expect((await loadTokenizer(folder, {})).eosTokenId).toBe(0);
    await writeFile(config, '{');
    await expect(loadTokenizer(folder)).rejects.toThrow(`${config}: it is not JSON`);
    await rm(config);
  });

  it('names what is missing or broken', async () => {
    await expect(loadTokenizer(join(folder, 'tokeniser.json'))).rejects.toThrow(
      /tokeniser\.json: no such file or folder\. Closest names: tokenizer\.json/,
    );
    const other = join(folder, 'other.json');
    await writeFile(other, '{"model": {}}');
    await expect(loadTokenizer(other)).rejects.toThrow(`${other}: model.vocab is missing`);
    await expect(loadTokenizer(tmpdir())).rejects.toThrow(
      `${join(tmpdir(), 'tokenizer.json')}: no such file or folder`,
    );
    await expect(loadTokenizer(new Uint8Array([0xff]))).rejects.toThrow('tokenizer.json: it is not JSON');
  });
});

describe('a broken tokenizer.json', () => {
  const { model } = json;
  it.each<[unknown, string]>([
    [null, 'it is null, not a JSON object'],
    [[], 'it is [], not a JSON object'],
    [{}, 'model is missing'],
    [{ model: { type: 'BPE', vocab: 3, merges: [] } }, 'model.vocab is 3'],
    [{ model: { ...model, vocab: { a: -1 } } }, 'model.vocab["a"] is -1'],
    [{ model: { ...model, vocab: { a: 2 ** 40 } } }, 'model.vocab["a"] is 1099511627776'],
    [{ model: { ...model, merges: 'a b' } }, 'model.merges is "a b"'],
    [{ model: { ...model, merges: ['a b c'] } }, 'model.merges[0] is "a b c"'],
    [{ model: { ...model, merges: [['a', 'zz']] } }, 'model.merges[0] needs the token "zz"'],
    [{ ...json, added_tokens: {} }, 'added_tokens is {}'],
    [{ ...json, added_tokens: [{ id: 1 }] }, 'added_tokens[0] has no content'],
    [{ ...json, added_tokens: [{ id: 'x', content: 'y' }] }, 'added_tokens[0].id is "x"'],
    [{ ...json, pre_tokenizer: { type: 'Nonsense' } }, 'not a tokenizer that can be read: Unknown PreTokenizer'],
  ])('%#: gets an error that names the place', (broken, message) => {
    expect(() => new Tokenizer(broken as TokenizerJson)).toThrow(FormatError);
    expect(() => new Tokenizer(broken as TokenizerJson)).toThrow(message);
  });

  it.each<[unknown, string]>([
    [3, 'The config of tokenizer.json: it is 3'],
    [{ eos_token: 3 }, 'eos_token is 3'],
    [{ eos_token: '<|endoftxt|>' }, 'eos_token is <|endoftxt|>, but there is no such token. Closest: <|endoftext|>'],
  ])('config %j', (config, message) => {
    expect(() => new Tokenizer(json, config as TokenizerConfig)).toThrow(FormatError);
    expect(() => new Tokenizer(json, config as TokenizerConfig)).toThrow(message);
  });

  it('never gets anything but a FormatError or a tokenizer', async () => {
    const bytes = new TextEncoder().encode(JSON.stringify(trainBpe(['aa bb aa'], { vocabSize: 260 })));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 32, max: 126 })), { minLength: 1, maxLength: 3 }),
        fc.option(fc.nat(bytes.length)),
        async (changes, length) => {
          const mutated = bytes.slice(0, length ?? bytes.length);
          for (const [place, byte] of changes) if (place < mutated.length) mutated[place] = byte;
          await loadTokenizer(mutated).catch((error) => expect(error).toBeInstanceOf(FormatError));
        },
      ),
      { numRuns: 500 },
    );
  });

  it('never gets anything but a FormatError or a tokenizer that works, whatever stands in one of its fields', () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    const single = [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }];
    const descriptions = {
      bytes: { ...sequenceJson, post_processor: { type: 'ByteLevel' } },
      metaspace: { ...metaspaceJson, post_processor: { type: 'TemplateProcessing', single } },
      config: { bos_token: null, eos_token: { content: '<s>' }, tokenizer_class: 'LlamaTokenizer' },
    };
    const places = fieldsOf(descriptions, []).filter((place) => place.length > 1);
    const value = fc.oneof(fc.constantFrom('ByteLevel', 'Sequence', 'Replace', 'Unigram', 'WordPiece'), fc.jsonValue());
    fc.assert(
      fc.property(fc.constantFrom(...places), fc.option(value, { nil: undefined }), anyText, (place, value, text) => {
        const broken = structuredClone(descriptions);
        const parent = place.slice(0, -1).reduce<object>((node, key) => Reflect.get(node, key), broken);
        Reflect.set(parent, place.at(-1)!, value);
        let made: Tokenizer;
        try {
          made = place[0] === 'bytes' ? new Tokenizer(broken.bytes) : new Tokenizer(broken.metaspace, broken.config);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
          return;
        }
        try {
          expect(typeof made.decode(made.encode(text, { addSpecialTokens: true }))).toBe('string');
        } catch (error) {
          // A vocabulary may lack what the text needs, and few texts reach every place of a file.
          if (!(error instanceof ConfigError || error instanceof FormatError)) throw error;
        }
      }),
      { numRuns: 800 },
    );
    warn.mockRestore();
  });
});

/** The paths to all fields of a JSON value, some of long lists and objects. */
function fieldsOf(value: unknown, path: string[]): string[][] {
  if (typeof value !== 'object' || value === null) return [path];
  const keys = Object.keys(value);
  const some = keys.length > 20 ? keys.slice(-2) : keys;
  return [path, ...some.flatMap((key) => fieldsOf(Reflect.get(value, key), [...path, key]))];
}
