import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { tarballProblems } from './pack.ts';
import { readmeInstalls } from './project.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pack-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const entry = { types: './dist/index.d.ts', default: './dist/index.js' };
const files = ['README.md', 'LICENSE', 'dist/index.js', 'dist/index.d.ts'];

/** Problems of a package with this manifest and these files. */
function problems(manifest: object, present: readonly string[] = files): string[] {
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
  for (const file of present) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), '');
  }
  return tarballProblems(folder);
}

it('accepts a complete tarball', () => {
  expect(problems({ exports: { '.': entry, './package.json': './package.json' } })).toEqual([]);
});

it('names every missing file', () => {
  expect(problems({ exports: { '.': entry } }, ['LICENSE', 'dist/index.js'])).toEqual([
    'README.md is missing',
    './dist/index.d.ts is missing',
  ]);
  expect(problems({ exports: './dist/index.js' })).toEqual(['exports has no types']);
});

it('refuses what only the workspace understands', () => {
  const dependencies = { a: 'workspace:^', b: 'catalog:' };
  const manifest = { exports: { '.': { '@ashlar/source': './dist/index.js', ...entry } }, dependencies };
  expect(problems(manifest)).toEqual([
    "package.json still says '@ashlar/source'",
    "package.json still says 'workspace:'",
    "package.json still says 'catalog:'",
  ]);
});

it('readmeInstalls reads the packages of install lines', () => {
  const readme = '```sh\nnpm i @ashlar/peft @tensorflow/tfjs-core\n$ npm install --save ml-matrix\n```\nnpm is nice';
  expect(readmeInstalls(readme)).toEqual(['@ashlar/peft', '@tensorflow/tfjs-core', 'ml-matrix']);
});
