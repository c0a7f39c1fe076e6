import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root, workspacePackages } from '../../workspace/src/packages.ts';

/** The folders of golden cases that packages have committed. */
export function committedFolders(workspace: string = root): string[] {
  return workspacePackages(workspace)
    .map(({ dir }) => join(dir, 'test', 'golden'))
    .filter(existsSync);
}
