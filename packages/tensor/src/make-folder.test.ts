import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeFolder } from './make-folder.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'make-folder-'));
});
afterAll(() => rm(folder, { recursive: true }));

it('makes all that is missing, at once and again', async () => {
  const path = join(folder, 'a', 'b', 'c');
  await Promise.all([makeFolder(path), makeFolder(path)]);
  await makeFolder(path);
  expect((await stat(path)).isDirectory()).toBe(true);
});

it('says in one error where it cannot', async () => {
  await writeFile(join(folder, 'file'), '');
  await expect(makeFolder(join(folder, 'file', 'x'))).rejects.toThrow(
    /file.x: cannot be written: a part of the path is a file/,
  );
  await expect(makeFolder(join(folder, 'file'))).rejects.toThrow(/there is a file of that name/);
});

it.runIf(process.platform === 'linux')('returns where Node’s own recursive mkdir does not', async () => {
  await expect(makeFolder('/proc/nowhere/checkpoints')).rejects.toThrow(/cannot be written/);
});
