import * as tf from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import './compare.testing.ts';
import { OrtBackend } from './index.ts';
import { policy } from './register.ts';
import type { LoadedGraph } from './runtime.ts';
import { nativeRuntime } from './session.ts';
import { SessionCache } from './session-cache.ts';

/** A cache whose entries note when they are made and disposed of. */
function recorded(limit: number): { cache: SessionCache; get: (key: string) => LoadedGraph; events: string[] } {
  const cache = new SessionCache(limit);
  const events: string[] = [];
  const load = (key: string): LoadedGraph => {
    events.push(`+${key}`);
    return { dispose: () => events.push(`-${key}`) } as unknown as LoadedGraph;
  };
  return { cache, get: (key) => cache.get(key, () => load(key)), events };
}

it('disposes of the session unused for longest', () => {
  const { cache, get, events } = recorded(2);
  const a = get('a');
  get('b');
  expect(get('a')).toBe(a);
  get('c');
  expect(events).toEqual(['+a', '+b', '+c', '-b']);
  get('b');
  expect(events.slice(4)).toEqual(['+b', '-a']);
  expect(cache.size).toBe(2);
  cache.clear();
  expect(events.slice(6)).toEqual(['-c', '-b']);
  expect(cache.size).toBe(0);
});

it('keeps what it has when loading fails', () => {
  const { cache, get, events } = recorded(1);
  get('a');
  expect(() =>
    cache.get('b', () => {
      throw new Error('no such graph');
    }),
  ).toThrow('no such graph');
  get('a');
  expect(events).toEqual(['+a']);
});

it('computes the same when every graph has to make room for the next', async () => {
  tf.registerBackend('small', () => new OrtBackend(nativeRuntime(), 2));
  for (const { kernelName, kernelFunc } of tf.getKernelsForBackend('ort')) {
    tf.registerKernel({ kernelName, kernelFunc, backendName: 'small' });
  }
  await tf.setBackend('small');
  policy.always = true;
  try {
    for (let round = 0; round < 50; round++) {
      const y = tf.tidy(() => tf.sqrt(tf.square(tf.neg(tf.relu(tf.exp(tf.tensor1d([0, Math.log(round + 1)])))))));
      expect(y.dataSync()[1]).toBeCloseTo(round + 1, 3);
      y.dispose();
    }
    expect((tf.backend() as OrtBackend).sessions).toBe(2);
  } finally {
    policy.always = false;
    await tf.setBackend('ort');
    tf.removeBackend('small');
    for (const { kernelName } of tf.getKernelsForBackend('small')) tf.unregisterKernel(kernelName, 'small');
  }
});
