import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import getReleasePlan from '@changesets/get-release-plan';
import { expect, it } from 'vitest';
import { publishablePackages, root } from '../../workspace/src/packages.ts';

it('makes a release of the changesets', async () => {
  const { changesets } = await getReleasePlan(root);
  const files = readdirSync(join(root, '.changeset')).filter((file) => file.endsWith('.md') && file !== 'README.md');
  expect(changesets.map(({ id }) => `${id}.md`).sort()).toEqual(files.sort());
  const names = publishablePackages().map(({ manifest }) => manifest.name);
  for (const { id, releases, summary } of changesets) {
    expect(releases.length, id).toBeGreaterThan(0);
    expect(names, id).toEqual(expect.arrayContaining(releases.map(({ name }) => name)));
    expect(summary, id).not.toBe('');
  }
});
