import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, memory, setBackend } from '@ashlar/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  constant,
  cosine,
  join,
  linear,
  piecewise,
  type Schedule,
  scheduleValue,
  tabulated,
  warmupCosine,
  warmupLinear,
} from './index.ts';

beforeAll(() => setBackend('cpu'));

const values = (schedule: Schedule, steps: number[]): number[] => steps.map((step) => scheduleValue(schedule, step));

describe('schedules', () => {
  it('constant and linear', () => {
    expect(values(constant(0.5), [0, 7])).toEqual([0.5, 0.5]);
    expect(values(linear({ init: 0, end: 1, steps: 4 }), [0, 1, 2, 4, 9])).toEqual([0, 0.25, 0.5, 1, 1]);
  });

  it('warm-ups reach the peak and the end exactly there', () => {
    const options = { peak: 2, warmupSteps: 4, totalSteps: 12, end: 0.5 };
    expect(values(warmupLinear(options), [0, 2, 4, 8, 12, 99])).toEqual([0, 1, 2, 1.25, 0.5, 0.5]);
    expect(values(warmupCosine(options), [0, 2, 4, 12, 99])).toEqual([0, 1, 2, 0.5, 0.5]);
    expect(scheduleValue(warmupCosine(options), 8)).toBeCloseTo(1.25, 6);
    expect(scheduleValue(warmupCosine({ ...options, warmupSteps: 0 }), 0)).toBe(2);
  });

  it('agree with their formulas in float64', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100_000 }), fc.nat(200_000), (steps, step) => {
        const u = Math.min(step / steps, 1);
        expect(scheduleValue(linear({ init: 3, end: 1, steps }), step)).toBeCloseTo(3 - 2 * u, 5);
        expect(scheduleValue(cosine({ init: 3, end: 1, steps }), step)).toBeCloseTo(2 + Math.cos(Math.PI * u), 5);
      }),
      { numRuns: 50 },
    );
  });

  it('piecewise and join switch at their boundaries, each piece counting from its start', () => {
    expect(values(piecewise([1, 2, 3], [2, 5]), [0, 1, 2, 4, 5, 100])).toEqual([1, 1, 2, 2, 3, 3]);
    const joined = join([constant(7), linear({ init: 0, end: 1, steps: 2 })], [3]);
    expect(values(joined, [2, 3, 4, 5])).toEqual([7, 0, 0.5, 1]);
  });

  it('tabulated takes any function and holds its last value', () => {
    const schedule = tabulated((step) => 1 / (1 + step), 4);
    expect(values(schedule, [0, 1, 3, 50])).toEqual([1, 0.5, 0.25, 0.25]);
  });

  it('leak nothing', () => {
    const before = memory().numTensors;
    scheduleValue(join([tabulated(Math.sqrt, 10), cosine({ init: 1, steps: 5 })], [3]), 4);
    expect(memory().numTensors).toBe(before);
  });

  it('refuse what makes no sense', () => {
    expect(() => linear({ init: 0, end: 1, steps: 0 })).toThrow(ConfigError);
    expect(() => warmupCosine({ peak: 1, warmupSteps: 10, totalSteps: 10 })).toThrow(
      'totalSteps is 10; it must be a whole number > 10.',
    );
    expect(() => piecewise([1, 2], [])).toThrow(/boundaries has 0 entries for 2 pieces/);
    expect(() => piecewise([1, 2, 3], [5, 5])).toThrow(/boundaries\[1\] is 5/);
    expect(() => tabulated(() => Number.NaN, 2)).toThrow(/f\(0\) is NaN/);
  });
});
