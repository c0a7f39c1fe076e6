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

it('writes results in place, and tells failures from its own sentinel', async () => {
  const { buildModel } = await import('./graph.ts');
  const { loadSession } = await fresh();
  const model = buildModel('Square', {
    key: '',
    inputs: [{ tensor: { dataId: {}, shape: [3], dtype: 'float32' }, shape: [3] }],
    outputs: [{ shape: [3], dtype: 'float32' }],
    emit: (g, [x]) => g.op('Mul', [x!, x!]),
  });
  const session = loadSession(model, 'kernel');
  const vector = (data: Float32Array) => ({ type: 'float32', data, dims: [data.length], location: 'cpu' }) as const;
  const result = new Float32Array(3);
  session.run({ x0: vector(Float32Array.of(1, 2, 3)) }, { y0: vector(result) });
  expect(result).toEqual(Float32Array.of(1, 4, 9));
  expect(() => session.run({}, { y0: vector(result) })).toThrow(/x0/);
  expect(Error.stackTraceLimit).toBeGreaterThan(0);
  session.dispose();
});
