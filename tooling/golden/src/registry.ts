import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root, workspacePackages } from '../../workspace/src/packages.ts';
import type { GoldenEntries, GoldenFunction } from './define-golden.ts';

export interface Registry {
  /** By `method/function`. */
  entries: Map<string, GoldenFunction>;
  /** One message per registration that is broken: a file that cannot be loaded, a function registered twice. */
  errors: string[];
}

/** Collects the default exports of `packages/<name>/test/golden.ts`. */
export async function loadRegistry(workspace: string = root): Promise<Registry> {
  const entries = new Map<string, GoldenFunction>();
  const owners = new Map<string, string>();
  const errors: string[] = [];
  for (const { dir } of workspacePackages(workspace)) {
    const file = join(dir, 'test', 'golden.ts');
    if (!existsSync(file)) continue;
    const name = relative(workspace, file);
    try {
      const module = (await import(pathToFileURL(file).href)) as { default?: GoldenEntries };
      if (!module.default) throw new Error('it has no default export (defineGolden({ … }))');
      for (const [key, call] of Object.entries(module.default)) {
        const owner = owners.get(key);
        if (owner) errors.push(`${name}: ${key} is registered already, by ${owner}`);
        owners.set(key, name);
        entries.set(key, call);
      }
    } catch (error) {
      errors.push(`${name} cannot be loaded: ${(error as Error).message}`);
    }
  }
  return { entries, errors };
}
