import { availableParallelism } from 'node:os';
import { afterEach, expect, it, vi } from 'vitest';

/** A fresh copy of the module, as a new process would load it. */
async function fresh(): Promise<typeof import('./session.ts')> {
  vi.resetModules();
  return import('./session.ts');
}

afterEach(() => {
  vi.unstubAllEnvs();
  vi.doUnmock('node:module');
});

it('uses every available core unless told otherwise', async () => {
  vi.stubEnv('ASHLAR_THREADS', undefined);
  const session = await fresh();
  expect(session.getThreads()).toBe(availableParallelism());
  session.setThreads(1);
  expect(session.getThreads()).toBe(1);
});

it('reads ASHLAR_THREADS', async () => {
  vi.stubEnv('ASHLAR_THREADS', '3');
  expect((await fresh()).getThreads()).toBe(3);
});

it.each(['0', '-1', '1.5', 'many'])('refuses %s threads', async (text) => {
  vi.stubEnv('ASHLAR_THREADS', text);
  const session = await fresh();
  expect(() => session.getThreads()).toThrow(/ASHLAR_THREADS is .*; it must be a whole number, at least 1/);
  expect(() => session.setThreads(Number(text))).toThrow(RangeError);
});

it.each([
  [
    'is missing',
    () => {
      throw new Error('Cannot find module');
    },
    /did not load on .*tf\.setBackend\('cpu'\).*Cannot find module/,
  ],
  ['has moved', () => ({ somethingElse: 1 }), /has moved its native binding.*tf\.setBackend\('cpu'\)/],
])('says what to do when the native library %s', async (_case, require, message) => {
  vi.doMock('node:module', () => ({ createRequire: () => require }));
  const session = await fresh();
  expect(() => session.loadBinding()).toThrow(message);
});
