import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { transform } from 'esbuild';
import { firstExample } from '../../readme/src/example.ts';
import { command } from '../../workspace/src/command.ts';
import { root } from '../../workspace/src/packages.ts';
import type { Packed } from './pack.ts';

/** What every example may import beside the package itself: the peer dependency and a backend to run on. */
const peers = ['@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-cpu'];

/**
 * An empty npm project in `folder`, with a package installed as a user would who follows its README: the package, the
 * TensorFlow.js peers and what the README's `npm install` lines name. All packages of the workspace come from their
 * tarballs, also those that are only dependencies.
 */
export async function installProject(folder: string, packed: Packed, all: readonly Packed[]): Promise<void> {
  const tarballs = new Map(all.map(({ manifest, tarball }) => [manifest.name, `file:${tarball}`]));
  const wanted = [...new Set([packed.manifest.name, ...namedByReadme(packed)])].filter((name) => !peers.includes(name));
  const dependencies = {
    ...Object.fromEntries(peers.map((name) => [name, peerVersion(name)])),
    ...Object.fromEntries(wanted.map((name) => [name, tarballs.get(name) ?? '*'])),
  };
  const overrides = Object.fromEntries([...tarballs].filter(([name]) => !wanted.includes(name)));
  mkdirSync(folder, { recursive: true });
  const manifest = { name: 'pack-check', private: true, type: 'module', dependencies, overrides };
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest, null, 2));
  const quiet = ['--no-audit', '--no-fund', '--no-progress', '--loglevel=error', '--prefer-offline'];
  await command('npm', ['install', '--ignore-scripts', ...quiet], { cwd: folder, timeout: 180_000 });
}

/** Writes the README's first example to `example.js` and runs it; it must succeed and print something. */
export async function runExample(folder: string, { contents, manifest }: Packed): Promise<void> {
  const example = firstExample(readFileSync(join(contents, 'README.md'), 'utf8'));
  if (!example) throw new Error(`the README of ${manifest.name} has no js or ts example`);
  const { code } = await transform(example.code, { loader: example.language, format: 'esm', target: 'es2022' });
  writeFileSync(join(folder, 'example.js'), code);
  const output = await command(process.execPath, ['example.js'], { cwd: folder, timeout: 120_000 });
  if (!output.trim()) throw new Error('the example prints nothing');
}

/** The packages in the README's `npm i` and `npm install` lines. */
export function readmeInstalls(readme: string): string[] {
  return [...readme.matchAll(/^\s*(?:\$ )?npm (?:i|install|add) (.*)$/gm)].flatMap(([, line]) =>
    line.split(/\s+/).filter((word) => /^@?[a-z0-9]/.test(word)),
  );
}

function namedByReadme({ contents }: Packed): string[] {
  return readmeInstalls(readFileSync(join(contents, 'README.md'), 'utf8'));
}

function peerVersion(name: string): string {
  const path = join(root, 'tooling/readme/node_modules', name, 'package.json');
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}
