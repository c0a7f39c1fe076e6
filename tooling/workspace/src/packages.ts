import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root folder. */
export const root: string = fileURLToPath(new URL('../../..', import.meta.url)).replace(/[/\\]$/, '');

/** The parts of a `package.json` that the tools read. */
export interface Manifest {
  name: string;
  version: string;
  private?: boolean;
  dependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
}

export interface WorkspacePackage {
  /** Absolute path of its folder. */
  dir: string;
  manifest: Manifest;
}

/** Every package of `packages/`, `apps/` and `tooling/`, sorted by folder. */
export function workspacePackages(workspace: string = root): WorkspacePackage[] {
  return ['packages', 'apps', 'tooling'].flatMap((group) => {
    const folder = join(workspace, group);
    if (!existsSync(folder)) return [];
    return readdirSync(folder)
      .sort()
      .map((name) => join(folder, name))
      .filter((dir) => existsSync(join(dir, 'package.json')))
      .map((dir) => ({ dir, manifest: JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as Manifest }));
  });
}

/** The packages that go to the registry: those not marked private. */
export function publishablePackages(workspace: string = root): WorkspacePackage[] {
  return workspacePackages(workspace).filter(({ manifest }) => !manifest.private);
}

/** The `.ts` files directly in one folder of each package (`claims`, `bench`), tests left out. */
export function packageScripts(folder: string, workspace: string = root): { name: string; path: string }[] {
  return workspacePackages(workspace).flatMap(({ dir }) => {
    const scripts = join(dir, folder);
    if (!existsSync(scripts)) return [];
    return readdirSync(scripts)
      .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
      .sort()
      .map((file) => ({ name: file.slice(0, -'.ts'.length), path: join(scripts, file) }));
  });
}
