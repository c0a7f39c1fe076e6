import { Worker } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { train } from './training.testing.ts';

const STEPS = 5;

/** Loads TypeScript, which plain worker threads do not. */
const PROGRAM = `
  import('tsx/esm/api').then(({ register }) => {
    register();
    return import(${JSON.stringify(new URL('./training.testing.ts', import.meta.url))});
  });
`;

function start(exitAt?: number): Worker {
  const options = { eval: true, workerData: { steps: STEPS, exitAt }, execArgv: ['--conditions=@ashlar/source'] };
  return new Worker(PROGRAM, options);
}

const next = <T>(worker: Worker, event: string): Promise<T> =>
  new Promise((resolve, reject) => {
    worker.once(event, resolve);
    worker.once('error', reject);
  });

it('trains on four worker threads and the main one at once, with equal results', async () => {
  const workers = Array.from({ length: 4 }, () => start());
  const answers = workers.map((worker) => next<number[]>(worker, 'message'));
  const before = tf.memory().numTensors;
  const losses = await train(STEPS);
  expect(tf.memory().numTensors).toBe(before);
  expect(losses[STEPS - 1]).toBeLessThan(losses[0]! / 2);
  expect(await Promise.all(answers)).toEqual(workers.map(() => losses));
  // While idle; within a native call the binding would abort the process, see README.md.
  await Promise.all(workers.map((worker) => worker.terminate()));
  expect(await train(STEPS)).toEqual(losses);
});

it('outlives worker threads that end in the middle of a step', async () => {
  const expected = await train(STEPS);
  const workers = Array.from({ length: 4 }, (_, i) => start(i));
  expect(await Promise.all(workers.map((worker) => next<number>(worker, 'exit')))).toEqual([7, 7, 7, 7]);
  expect(await train(STEPS)).toEqual(expected);
});
