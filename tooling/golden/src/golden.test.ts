import { relative } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { useBackend } from '../../workspace/src/backend.ts';
import { root } from '../../workspace/src/packages.ts';
import { committedFolders } from './committed.ts';
import { findGoldenFiles, readGoldenFile } from './golden-file.ts';
import { loadRegistry } from './registry.ts';
import { replay } from './replay.ts';
import { keyOf } from './run.ts';

const { entries, errors } = await loadRegistry();
const files = (await Promise.all(committedFolders().map(findGoldenFiles))).flat();
const cases = files.map(readGoldenFile);
const registered = cases.flatMap((golden) => {
  const call = entries.get(keyOf(golden));
  return call ? [[relative(root, golden.path), golden, call] as const] : [];
});

it('every registration loads', () => {
  expect(errors).toEqual([]);
});

it('every committed case has a registered function', () => {
  expect(cases.map(keyOf).filter((key) => !entries.has(key))).toEqual([]);
});

describe.each(['cpu', 'ort'])('on the %s backend', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(registered)('%s', async (_path, golden, call) => {
    expect(await replay(golden, call)).toBeUndefined();
  });
});
