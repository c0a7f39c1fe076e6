import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { loadRegistry } from './registry.ts';

let workspace: string;
beforeEach(() => {
  workspace = mkdtempSync(join(tmpdir(), 'registry-'));
});
afterEach(() => rmSync(workspace, { recursive: true }));

function register(name: string, source: string): void {
  const dir = join(workspace, 'packages', name);
  mkdirSync(join(dir, 'test'), { recursive: true });
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ name, version: '1.0.0' }));
  writeFileSync(join(dir, 'test', 'golden.ts'), source);
}

it('collects the registrations of all packages', async () => {
  register('a', "export default { 'a/f': () => ({}) };");
  register('b', "export default { 'b/f': () => ({}), 'b/g': () => ({}) };");
  const { entries, errors } = await loadRegistry(workspace);
  expect([...entries.keys()]).toEqual(['a/f', 'b/f', 'b/g']);
  expect(errors).toEqual([]);
});

it('names registrations that break, and goes on with the others', async () => {
  register('a', "export default { 'a/f': () => ({}) };");
  register('b', "export default { 'a/f': () => ({}) };");
  register('c', "throw new Error('broken');");
  register('d', 'export const entries = {};');
  register('e', "export default { 'e/f': () => ({}) };");
  const { entries, errors } = await loadRegistry(workspace);
  expect([...entries.keys()]).toEqual(['a/f', 'e/f']);
  expect(errors).toEqual([
    'packages/b/test/golden.ts: a/f is registered already, by packages/a/test/golden.ts',
    'packages/c/test/golden.ts cannot be loaded: broken',
    'packages/d/test/golden.ts cannot be loaded: it has no default export (defineGolden({ … }))',
  ]);
});
