import fs, { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { AshlarError } from './errors.ts';
import { rejection, temporaryFolder } from './safetensors/testing.ts';
import { writeFileAtomic } from './write-file-atomic.ts';

afterEach(() => void vi.restoreAllMocks());

describe('writeFileAtomic', () => {
  it('writes text, bytes and pieces', async () => {
    const folder = await temporaryFolder();
    const path = join(folder, 'state.json');
    await writeFileAtomic(path, '{"é":1}');
    expect(await readFile(path, 'utf8')).toBe('{"é":1}');
    await writeFileAtomic(path, Uint8Array.of(1, 2));
    expect([...(await readFile(path))]).toEqual([1, 2]);
    await writeFileAtomic(path, ['a', Uint8Array.of(98)]);
    expect(await readFile(path, 'utf8')).toBe('ab');
    await writeFileAtomic(
      path,
      (async function* () {
        yield 'x'.repeat(3_000_000);
        yield Uint8Array.of(121);
      })(),
    );
    expect(await readFile(path, 'utf8')).toBe(`${'x'.repeat(3_000_000)}y`);
    expect(await readdir(folder)).toEqual(['state.json']);
  });

  it('leaves the earlier file and no other when the pieces fail', async () => {
    const folder = await temporaryFolder();
    const path = join(folder, 'model.bin');
    await writeFile(path, 'good');
    const failure = new RangeError('no more');
    const chunks = async function* (): AsyncGenerator<string> {
      yield 'half';
      throw failure;
    };
    expect(await rejection(writeFileAtomic(path, chunks()))).toBe(failure);
    expect(await readFile(path, 'utf8')).toBe('good');
    expect(await readdir(folder)).toEqual(['model.bin']);
  });

  it.each([
    ['ENOSPC', 'the disk is full. Free some space'],
    ['EROFS', 'the disk is read-only'],
    ['EACCES', 'the folder is not writable'],
    ['EIO', 'i/o error'],
  ])('says what to do about %s', async (code, message) => {
    const folder = await temporaryFolder();
    const path = join(folder, 'model.bin');
    await writeFile(path, 'good');
    vi.spyOn(fs, 'writeFile').mockRejectedValue(Object.assign(new Error('i/o error'), { code, syscall: 'write' }));
    const error = await rejection(writeFileAtomic(path, 'new'));
    vi.restoreAllMocks();
    expect(error).toBeInstanceOf(AshlarError);
    expect(error.message).toContain(`${path}: cannot be written: ${message}`);
    expect(await readFile(path, 'utf8')).toBe('good');
    expect(await readdir(folder)).toEqual(['model.bin']);
  });

  it('names a path that cannot be', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'file'), '');
    expect((await rejection(writeFileAtomic(join(folder, 'no', 'x'), ''))).message).toContain('folder does not exist');
    expect((await rejection(writeFileAtomic(join(folder, 'file', 'x'), ''))).message).toContain(
      'is a file, not a folder',
    );
    expect((await rejection(writeFileAtomic(folder, ''))).message).toContain('exists and is not a file');
  });

  it('keeps a symbolic link and the permissions of the file that it replaces', async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, 'real'));
    const [target, link] = [join(folder, 'real', 'model.bin'), join(folder, 'link.bin')];
    await writeFile(target, 'old');
    await chmod(target, 0o600);
    await symlink(target, link);
    await writeFileAtomic(link, 'new');
    expect(await readFile(target, 'utf8')).toBe('new');
    expect((await stat(target)).mode & 0o777).toBe(0o600);
    expect((await fs.lstat(link)).isSymbolicLink()).toBe(true);
  });
});
