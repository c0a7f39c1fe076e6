import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, Rng, ShapeError, setBackend, tensor3d } from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { algorithmicTargets, algorithmicTask, maskedMse } from './algorithmic-tasks.ts';

beforeAll(() => setBackend('cpu'));

describe('algorithmicTargets', () => {
  const x = [3, -1, 2, -4];

  it('answers for all and for each beginning', () => {
    expect(algorithmicTargets('sum', x)).toEqual([0, 0, 0, 0]);
    expect(algorithmicTargets('sum', x, { cumulative: true })).toEqual([3, 2, 4, 0]);
    expect(algorithmicTargets('min', x, { cumulative: true })).toEqual([3, -1, -1, -4]);
    expect(algorithmicTargets('max', x, { cumulative: true })).toEqual([3, 3, 3, 3]);
    expect(algorithmicTargets('median', x, { cumulative: true })).toEqual([3, 1, 2, 0.5]);
    expect(algorithmicTargets('sort', x)).toEqual([-4, -1, 2, 3]);
    expect(algorithmicTargets('minsum', x)).toEqual([-5, -5, -5, -5]);
    expect(algorithmicTargets('minsum', x, { cumulative: true })).toEqual([5, -5, 5, -5]);
    expect(x).toEqual([3, -1, 2, -4]);
  });

  it('finds the largest block, at least one long', () => {
    expect(algorithmicTargets('maxsub', x, { cumulative: true })).toEqual([3, 3, 4, 4]);
    expect(algorithmicTargets('maxsub', [-3, -2])).toEqual([-2, -2]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1, maxLength: 8 }), (values) => {
        const blocks = values.flatMap((_, i) =>
          values.slice(i).map((_, j) => values.slice(i, i + j + 1).reduce((a, b) => a + b, 0)),
        );
        expect(algorithmicTargets('maxsub', values)[0]).toBe(Math.max(...blocks));
      }),
    );
  });

  it('refuses what has no answer', () => {
    expect(() => algorithmicTargets('minsum', [1, 2, 3])).toThrow(/minsum adds pairs; 3 numbers/);
    expect(() => algorithmicTargets('sort', x, { cumulative: true })).toThrow(/no cumulative form/);
    expect(() => algorithmicTargets('product' as 'sum', x)).toThrow(/task is "product"; it may be "sum", "min"/);
  });
});

describe('algorithmicTask', () => {
  const options = { task: 'sum', n: 4, samples: 200, low: -2, high: 2, cumulative: true, extraNodes: 1 } as const;

  it('fills samples and leaves the extra nodes at zero', () => {
    const { x, y } = algorithmicTask(options, new Rng(0));
    expect([x.shape, y.shape]).toEqual([
      [200, 5, 1],
      [200, 5, 1],
    ]);
    const [xs, ys] = [x, y].map((t) => (t.arraySync() as number[][][]).map((row) => row.map(([value]) => value)));
    for (const [i, row] of xs.entries()) {
      expect(row.every((value) => Math.abs(value) <= 2)).toBe(true);
      expect([row[4], ys[i][4]]).toEqual([0, 0]);
      expect(ys[i][3]).toBeCloseTo(row[0] + row[1] + row[2] + row[3], 5);
    }
    expect(algorithmicTask(options, new Rng(0)).x.dataSync()).toEqual(x.dataSync());
    expect(algorithmicTask(options, new Rng(1)).x.dataSync()).not.toEqual(x.dataSync());
    // Ranges are the samples' own: most are much narrower than all of [-2, 2].
    const spans = xs.map((row) => Math.max(...row.slice(0, 4)) - Math.min(...row.slice(0, 4)));
    expect(spans.filter((span) => span < 0.8).length).toBeGreaterThan(50);
    expectNoLeak(() => algorithmicTask(options, new Rng(0)));
  });

  it('doubles the numbers of minsum', () => {
    expect(algorithmicTask({ ...options, task: 'minsum' }, new Rng(0)).x.shape).toEqual([200, 9, 1]);
  });

  it('rejects samples of the range of training', () => {
    const wide = { ...options, n: 64, low: -4, high: 4 };
    const inside = (reject?: { low: number; high: number }): number =>
      (algorithmicTask({ ...wide, reject }, new Rng(0)).x.arraySync() as number[][][]).filter((row) =>
        row.every(([value]) => Math.abs(value) <= 1.9),
      ).length;
    expect(inside()).toBeGreaterThan(20);
    expect(inside({ low: -2, high: 2 })).toBe(0);
  });

  it.each<[object, RegExp]>([
    [{ n: 0 }, /n is 0/],
    [{ samples: 1.5 }, /samples is 1.5/],
    [{ extraNodes: -1 }, /extraNodes is -1/],
    [{ low: 2 }, /low and high are 2 and 2; they may be finite numbers, low below high/],
    [{ high: Number.NaN }, /low and high are -2 and NaN/],
    [{ reject: { low: 1, high: 0 } }, /reject are 1 and 0/],
    [{ reject: { low: -3, high: 3 } }, /reject is \[-3, 3\], which leaves next to nothing of \[-2, 2\]/],
    [{ reject: { low: -2, high: 1.9999 } }, /next to nothing/],
  ])('refuses %o', (wrong, message) => {
    const run = () => algorithmicTask({ ...options, ...wrong }, new Rng(0));
    expect(run).toThrow(ConfigError);
    expect(run).toThrow(message);
  });
});

describe('maskedMse', () => {
  it('leaves the extra nodes out', () => {
    const [out, y] = [
      [1, 2, 30],
      [0, 4, 0],
    ].map((values) => tensor3d(values, [1, 3, 1]));
    expect(maskedMse(out, y, 1).dataSync()[0]).toBe(2.5);
    gradCheck((out, y) => maskedMse(out, y, 1), [out, y]);
    expectNoLeak(() => maskedMse(out, y, 1));
    expect(() => maskedMse(out, y, 3)).toThrow(ShapeError);
    expect(() => maskedMse(out, tensor3d([1], [1, 1, 1]), 0)).toThrow(/not \[1,3,1\] and\s\[1,1,1\]/);
  });
});
