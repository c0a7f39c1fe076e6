import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { measureCase } from './measure.ts';

const options = { rounds: 5, sampleTime: 0 };

/** What `performance.now` says, in milliseconds: only the contestants advance it. */
let clock = 0;

beforeEach(() => {
  vi.spyOn(performance, 'now').mockImplementation(() => clock);
});
afterEach(() => vi.restoreAllMocks());

it('takes turns, prepares before each sample and starts each round with another contestant', async () => {
  const order: string[] = [];
  const contestant = (name: string) => ({ prepare: () => order.push(name), run: () => {} });
  const contestants = { a: contestant('a'), b: contestant('b'), c: contestant('c') };
  const timings = await measureCase({ name: 'turns', contestants }, options);
  expect(order.join('')).toBe('aabbccabcbcacababcbca');
  expect(timings.map((timing) => timing.contestant)).toEqual(['a', 'b', 'c']);
});

it('gives the median per run, asynchronous runs included, and the rate', async () => {
  const durations = [9, 9, 20, 5, 4, 60, 6];
  const run = async () => {
    await sleep(0);
    clock += durations.shift() ?? 0;
  };
  const [timing] = await measureCase({ name: 'work', contestants: { run: { run } }, flops: 5e6 }, options);
  expect(timing).toEqual({ contestant: 'run', median: 6, min: 4, max: 60, samples: 5, rate: 5 / 6 });
});

it('repeats short runs within a sample', async () => {
  let runs = 0;
  const run = () => {
    runs++;
    clock += 0.25;
  };
  const [timing] = await measureCase({ name: 'short', contestants: { run: { run } } }, { ...options, sampleTime: 2 });
  expect(runs).toBe(2 + 5 * 8);
  expect(timing).toMatchObject({ median: 0.25, samples: 5 });
});

it('measures slow contestants once and reports the absent ones', async () => {
  const slow = () => {
    clock += 40_000;
  };
  const absent = () => {
    throw new Error('not installed');
  };
  const contestants = { slow: { run: slow, notes: () => ({ MiB: 3 }) }, absent: { run: absent } };
  expect(await measureCase({ name: 'odd', contestants }, options)).toEqual([
    { contestant: 'slow', median: 40_000, min: 40_000, max: 40_000, samples: 1, notes: { MiB: 3 } },
    { contestant: 'absent', absent: 'not installed' },
  ]);
});

it('refuses fewer than five rounds', async () => {
  await expect(measureCase({ name: 'few', contestants: {} }, { rounds: 4, sampleTime: 0 })).rejects.toThrow(
    'at least 5',
  );
});
