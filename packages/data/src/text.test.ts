import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ConfigError, FormatError } from '@ashlar/tensor';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readText, streamText } from './text.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ashlar-text-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

async function failure(path: string): Promise<string> {
  const error = await readText(path).then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(FormatError);
  return error.message;
}

describe('readText', () => {
  it('reads a file of any name as it is, but for the byte order mark', async () => {
    const path = await write('book', '\ufeffe\u0301 \u00e9\r\n\ufeff\n  ');
    const documents = [{ name: 'book', text: 'e\u0301 \u00e9\r\n\ufeff\n  ' }];
    expect(await readText(path)).toEqual(documents);
    expect(await readText(pathToFileURL(path))).toEqual(documents);
  });

  it('reads the text files of a folder and those in it, in natural order', async () => {
    await mkdir(join(folder, 'part'));
    for (const name of ['10.txt', '2.txt', 'part/a.md', 'Part.TXT', 'picture.png', 'txt']) await write(name, name);
    const names = ['2.txt', '10.txt', 'Part.TXT', 'part/a.md'];
    expect(await readText(folder)).toEqual(names.map((name) => ({ name, text: name })));
  });

  it('follows links to files, not to folders', async () => {
    const file = await write('source', 'text');
    await symlink(file, join(folder, 'link.txt'));
    await symlink(folder, join(folder, 'loop.md'));
    expect(await readText(folder)).toEqual([{ name: 'link.txt', text: 'text' }]);
  });

  it('names what is not there and what comes close', async () => {
    await write('moby-dick.txt', 'Call me Ishmael.');
    const path = join(folder, 'mobydick.txt');
    expect(await failure(path)).toBe(`${path}: no such file or folder. Closest names: moby-dick.txt.`);
    const deep = join(folder, 'no', 'such.txt');
    expect(await failure(deep)).toBe(`${deep}: no such file or folder. Nor is there a folder ${join(folder, 'no')}.`);
    expect(await failure(join(folder, 'moby-dick.txt', 'x'))).toContain('no such file or folder');
  });

  it('refuses a folder without text', async () => {
    await write('a.png', 'a');
    expect(await failure(folder)).toContain(`${folder}: no *.txt or *.md file`);
  });

  it.each<[string, Uint8Array | string, string]>([
    ['empty', '', 'there is no text in it'],
    ['white space', ' \n\t', 'there is no text in it'],
    ['binary', new Uint8Array([65, 66, 0, 67]), 'a NUL at byte 2 says that it is binary'],
    ['UTF-16', new Uint8Array([0xff, 0xfe, 65, 0]), 'it is UTF-16'],
    ['Latin-1', Buffer.from('naïve', 'latin1'), 'byte 2 is not UTF-8. Save it as UTF-8.'],
    ['cut off', Buffer.from('ab€').subarray(0, 4), 'byte 2 is not UTF-8'],
    ['a surrogate', new Uint8Array([0xed, 0xa0, 0x80]), 'byte 0 is not UTF-8'],
  ])('refuses a file that is %s, alone and in a folder', async (_, content, message) => {
    await write('a.txt', 'good');
    const path = await write('b.txt', content);
    expect(await failure(path)).toContain(`${path}: ${message}`);
    expect(await failure(folder)).toContain(`${path}: ${message}`);
  });

  it('names the first byte that is not UTF-8, wherever it is', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: 'binary' }).map((text) => Buffer.from(text.replaceAll('\0', ''))),
        fc.constantFrom([0xff], [0x80], [0xc0, 0x80], [0xe2, 0x82], [0xf0, 0x9f, 0x98], [0xf5, 0x80]),
        fc.constantFrom('', ' ', 'é'),
        async (before, bad, after) => {
          const path = await write(
            'c.txt',
            Buffer.concat([Buffer.from('x'), before, Buffer.from(bad), Buffer.from(after)]),
          );
          expect(await failure(path)).toContain(`byte ${1 + before.length} is not UTF-8`);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('refuses, without reading it, what is longer than a string can be', async () => {
    const path = await write('large.txt', '');
    await truncate(path, 2 ** 40);
    expect(await failure(path)).toContain(`${path}: 1099511627776 bytes are more than one string can hold`);
  });

  it('does not wait for a device', async () => {
    expect(await failure('/dev/zero')).toContain('/dev/zero: it is neither a file nor a folder');
  });

  it('says outside Node that there are no files', async () => {
    const { getBuiltinModule } = process;
    Object.defineProperty(process, 'getBuiltinModule', { value: undefined, configurable: true });
    try {
      await expect(readText('a.txt')).rejects.toThrow(ConfigError);
    } finally {
      Object.defineProperty(process, 'getBuiltinModule', { value: getBuiltinModule, configurable: true });
    }
  });
});

it('streamText reads a file when it is asked for', async () => {
  await write('1.txt', 'first');
  await write('2.txt', '');
  const documents = streamText(folder);
  expect((await documents.next()).value).toEqual({ name: '1.txt', text: 'first' });
  await write('2.txt', 'second');
  expect((await documents.next()).value).toEqual({ name: '2.txt', text: 'second' });
  expect((await documents.next()).done).toBe(true);
});
