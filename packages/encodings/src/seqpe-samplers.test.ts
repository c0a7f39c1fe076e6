import { ConfigError, Rng } from '@ashlar/tensor';
import { describe, expect, it } from 'vitest';
import { contrastiveBatch, nearestCandidate, type Place, transferBatch, windowStarts } from './seqpe-samplers.ts';

const line = { axes: 1, extent: 400 };
const square = { axes: 2, extent: 20 };
const far = (a: Place, b: Place): number => a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0);

it('nearestCandidate is the first of equals', () => {
  expect(
    nearestCandidate(
      [5, 5],
      [
        [9, 9],
        [5, 6],
        [6, 5],
        [0, 0],
      ],
    ),
  ).toBe(1);
});

describe('contrastiveBatch', () => {
  it.each([
    ['even', { windowShare: 0, hardShare: 0 }],
    ['window', { windowShare: 1, hardShare: 0 }],
    ['hard', { windowShare: 0, hardShare: 1, hardPart: 0.5 }],
    ['mixed', {}],
  ])('%s: candidates of the space, all different, none the pivot, and the nearest by label', (_, mix) => {
    for (const space of [line, square, { axes: 3, extent: 9 }]) {
      const options = { pivots: 12, candidates: 16, window: 10, ...mix };
      const { pivots, candidates, labels } = contrastiveBatch(space, options, new Rng(1));
      expect([pivots.length, candidates.length, labels.length]).toEqual([12, 12, 12]);
      for (const [i, own] of candidates.entries()) {
        expect(own).toHaveLength(16);
        expect(new Set([...own, pivots[i]].map(String)).size).toBe(17);
        for (const place of [...own, pivots[i]]) {
          expect(place).toHaveLength(space.axes);
          expect(place.every((x) => Number.isInteger(x) && x >= 0 && x < space.extent)).toBe(true);
        }
        expect(Math.min(...own.map((place) => far(place, pivots[i])))).toBe(far(own[labels[i]], pivots[i]));
      }
    }
  });

  it('draws from one window where it should', () => {
    const { candidates } = contrastiveBatch(
      line,
      { pivots: 40, candidates: 16, window: 40, windowShare: 1, hardShare: 0 },
      new Rng(2),
    );
    for (const own of candidates) {
      const places = own.map(([x]) => x);
      expect(Math.max(...places) - Math.min(...places)).toBeLessThan(40);
    }
  });

  it('edits digits for hard negatives: they share digits with the pivot more often than others', () => {
    const space = { axes: 1, extent: 20000 };
    const shared = (hardShare: number): number => {
      const options = { pivots: 200, candidates: 20, windowShare: 0, hardShare, hardPart: 0.2 };
      const { pivots, candidates } = contrastiveBatch(space, options, new Rng(3));
      const alike = (a: Place, b: Place): number => [...String(a)].filter((digit, i) => String(b)[i] === digit).length;
      return pivots.reduce(
        (sum, pivot, i) => sum + candidates[i].filter((place) => alike(pivot, place) >= 3).length,
        0,
      );
    };
    expect(shared(1)).toBeGreaterThan(1.8 * shared(0));
  });

  it('tops a window up that has too few positions', () => {
    const { candidates } = contrastiveBatch(
      line,
      { pivots: 4, candidates: 16, window: 5, windowShare: 1, hardShare: 0 },
      new Rng(4),
    );
    for (const own of candidates) expect(new Set(own.map(String)).size).toBe(16);
  });

  it('draws the same from the same seed', () => {
    const draw = (seed: number): unknown => contrastiveBatch(square, { pivots: 5, candidates: 8 }, new Rng(seed));
    expect(draw(5)).toEqual(draw(5));
    expect(draw(5)).not.toEqual(draw(6));
  });

  it('refuses no candidates, more than there are, and shares that are none', () => {
    const draw = (options: object) => () => contrastiveBatch(line, options, new Rng(0));
    expect(draw({ candidates: 0 })).toThrow(/candidates is 0/);
    expect(draw({ pivots: 0 })).toThrow(ConfigError);
    expect(draw({ candidates: 400 })).toThrow(/there are 399 positions besides the pivot/);
    expect(draw({ windowShare: 0.8, hardShare: 0.3 })).toThrow(/windowShare \+ hardShare/);
    expect(draw({ hardPart: 2 })).toThrow(/hardPart is 2/);
  });
});

describe('transferBatch', () => {
  it.each<[string, typeof line, Place]>([
    ['a line', line, [32]],
    ['a square', square, [6, 8]],
  ])('moves places of the main window outside: %s', (_, space, window) => {
    const { teacher, student } = transferBatch(space, window, { windows: 50, positions: 16 }, new Rng(1));
    expect([teacher.length, student.length]).toEqual([50, 50]);
    for (const [i, places] of teacher.entries()) {
      expect(new Set(places.map(String)).size).toBe(16);
      const start = student[i][0].map((x, axis) => x - places[0][axis]);
      expect(start.some((x, axis) => x >= window[axis])).toBe(true);
      for (const [j, place] of places.entries()) {
        expect(place.every((x, axis) => x >= 0 && x < window[axis])).toBe(true);
        expect(student[i][j]).toEqual(place.map((x, axis) => x + start[axis]));
        expect(student[i][j].every((x) => x < space.extent)).toBe(true);
      }
    }
    const again = transferBatch(space, window, { windows: 50, positions: 16 }, new Rng(1));
    expect(again).toEqual({ teacher, student });
  });

  it('takes the whole of a window smaller than its default', () => {
    expect(transferBatch(line, [5], {}, new Rng(0)).teacher[0]).toHaveLength(5);
  });

  it('refuses windows that are too large or have too few positions', () => {
    const draw =
      (window: Place, options = {}) =>
      () =>
        transferBatch(line, window, options, new Rng(0));
    expect(draw([401])).toThrow(/window is \[401\]; coordinates are below 400: shorten it or raise maxPosition/);
    expect(draw([201])).toThrow(/no other begins outside/);
    expect(draw([200])).not.toThrow();
    expect(draw([8, 8])).toThrow(/a side for each of the 1 axes/);
    expect(draw([8], { positions: 9 })).toThrow(/positions is 9/);
    expect(draw([8], { windows: 0 })).toThrow(ConfigError);
  });
});

it('windowStarts are different and inside, all of them where there are few', () => {
  const starts = windowStarts(square, [18, 19], 320, new Rng(0));
  expect(new Set(starts.map(String)).size).toBe(6);
  expect(starts.every(([row, column]) => row <= 2 && column <= 1)).toBe(true);
  expect(windowStarts(line, [32], 20, new Rng(0))).toHaveLength(20);
});
