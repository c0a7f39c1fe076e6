import * as tf from '@tensorflow/tfjs-core';
import { expect, it, vi } from 'vitest';
import '@tensorflow/tfjs-backend-cpu';

vi.mock('node:module', () => ({
  createRequire: () => () => {
    throw new Error('no library for this platform');
  },
}));

it('says why where the native library is missing, and leaves cpu to be used', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
  await import('./index.ts');
  expect(await tf.setBackend('ort')).toBe(false);
  expect(warn.mock.calls.flat().join('\n')).toMatch(
    /native library did not load on .*tf\.setBackend\('cpu'\).*no library for this platform/,
  );
  expect(tf.add(1, 2).dataSync()[0]).toBe(3);
  expect(tf.getBackend()).toBe('cpu');
  expect(await tf.setBackend('cpu')).toBe(true);
});
