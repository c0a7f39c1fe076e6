import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { command } from '../../workspace/src/command.ts';
import { type Manifest, root, type WorkspacePackage } from '../../workspace/src/packages.ts';

export interface Packed {
  /** Its folder in the workspace, relative to the root. */
  folder: string;
  /** As published. */
  manifest: Manifest;
  tarball: string;
  /** Where the tarball's files lie. */
  contents: string;
}

/** Packs a package as `pnpm publish` would, into `folder`, and unpacks the tarball beside it. */
export async function pack({ dir }: WorkspacePackage, folder: string): Promise<Packed> {
  const json = await command('pnpm', ['pack', '--json', '--pack-destination', folder], { cwd: dir });
  const { filename } = JSON.parse(json) as { filename: string };
  const contents = filename.replace(/\.tgz$/, '');
  mkdirSync(contents);
  await command('tar', ['-xzf', filename, '-C', contents, '--strip-components=1'], { cwd: folder });
  const manifest = JSON.parse(readFileSync(join(contents, 'package.json'), 'utf8')) as Manifest;
  return { folder: relative(root, dir), manifest, tarball: filename, contents };
}

/** What is wrong with a tarball's contents: files that are missing, and what only makes sense in the workspace. */
export function tarballProblems(contents: string): string[] {
  const text = readFileSync(join(contents, 'package.json'), 'utf8');
  const leftovers = ['@ashlar/source', 'workspace:', 'catalog:'].filter((word) => text.includes(word));
  const targets = exportTargets((JSON.parse(text) as { exports?: unknown }).exports);
  const required = ['README.md', 'LICENSE', ...targets];
  return [
    ...leftovers.map((word) => `package.json still says '${word}'`),
    ...required.filter((file) => !existsSync(join(contents, file))).map((file) => `${file} is missing`),
    ...(targets.some((file) => file.endsWith('.d.ts')) ? [] : ['exports has no types']),
  ];
}

/** The files that an `exports` field points to. */
function exportTargets(exports: unknown): string[] {
  if (typeof exports === 'string') return [exports];
  return typeof exports === 'object' && exports ? Object.values(exports).flatMap(exportTargets) : [];
}
