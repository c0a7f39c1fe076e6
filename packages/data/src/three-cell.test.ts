import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, Rng, ShapeError, setBackend, tensor2d } from '@ashlar/tensor';
import { expectNoLeak } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { threeCellDataset, threeCellLabels, threeCellScores } from './index.ts';

beforeAll(() => setBackend('cpu'));

describe('the three-cell experiment', () => {
  it('draws one cell of each colour, and never three on a line', () => {
    const { images, labels, cells } = threeCellDataset({ grid: 5, patchSize: 2, count: 20 }, new Rng(1));
    expect([images.shape, labels.shape]).toEqual([
      [20, 3, 10, 10],
      [20, 6],
    ]);
    const pictures = images.arraySync();
    for (const [i, three] of cells.entries()) {
      for (const [channel, [x, y]] of three.entries()) {
        expect(pictures[i][channel].flat().reduce((a, b) => a + b)).toBe(4);
        expect(pictures[i][channel][2 * y + 1][2 * x]).toBe(1);
      }
      expect(labels.arraySync()[i]).toEqual(threeCellLabels(three, 5));
      const [[rx, ry], [gx, gy], [bx, by]] = three;
      expect((gx - rx) * (by - ry)).not.toBe((gy - ry) * (bx - rx));
    }
  });

  it('makes more, less and equal as likely, of distances and of areas', () => {
    const { labels } = threeCellDataset({ grid: 14, patchSize: 1, count: 3000 }, new Rng(2));
    const rows = labels.arraySync();
    const share = (holds: (row: number[]) => boolean): number => rows.filter(holds).length / rows.length;
    for (const [more, less] of [
      [0, 1],
      [3, 4],
    ]) {
      expect(share((row) => row[more] === 1)).toBeCloseTo(1 / 3, 1);
      expect(share((row) => row[less] === 1)).toBeCloseTo(1 / 3, 1);
      expect(share((row) => row[more] + row[less] === 0)).toBeCloseTo(1 / 3, 1);
    }
  });

  it('scores each task and their mean', async () => {
    const labels = tensor2d([
      [1, 0, 1, 0, 1, 0],
      [0, 0, 0, 0, 0, 1],
    ]);
    expect(
      await threeCellScores(
        tensor2d([
          [5, -1, 1, -3, 2, -1],
          [-1, -1, -1, -1, -1, 1],
        ]),
        labels,
      ),
    ).toEqual({
      distance: 1,
      orientation: 1,
      area: 1,
      'vector sum': 1,
      average: 1,
    });
    const half = await threeCellScores(
      tensor2d([
        [1, 1, -1, -1, -1, -1],
        [-1, -1, 1, -1, -1, -1],
      ]),
      labels,
    );
    expect(half).toEqual({ distance: 0.75, orientation: 0, area: 0.75, 'vector sum': 0.5, average: 0.5 });
    await expect(threeCellScores(tensor2d([[1]]), labels)).rejects.toThrow(ShapeError);
  });

  it('is the same for the same seed, leaves nothing, and names what is wrong', () => {
    const draw = (seed: number): string =>
      JSON.stringify(threeCellDataset({ count: 4, patchSize: 1 }, new Rng(seed)).cells);
    expect(draw(1)).toBe(draw(1));
    expect(draw(1)).not.toBe(draw(2));
    expectNoLeak(() => {
      const { images, labels } = threeCellDataset({ grid: 3, patchSize: 1, count: 2 }, new Rng(1));
      return [images, labels];
    });
    expect(() => threeCellDataset({ grid: 2, count: 1 }, new Rng(0))).toThrow(/grid is 2/);
    const red = [0, 0] as const;
    expect(() => threeCellLabels([red, red, [1, 2]], 5)).toThrow(/three different ones, \[x, y\] from 0 to 4/);
    expect(() => threeCellLabels([red, [0, 5], [1, 2]], 5)).toThrow(ConfigError);
  });

  it('finds every outcome on the smallest grid', () => {
    const { cells } = threeCellDataset({ grid: 3, patchSize: 1, count: 300 }, new Rng(3));
    const outcomes = cells.map((three) => {
      const [greenFarther, blueFarther, , greenLarger, blueLarger] = threeCellLabels(three, 3);
      return `${greenFarther - blueFarther} ${greenLarger - blueLarger}`;
    });
    const counts = [...new Set(outcomes)].map((one) => outcomes.filter((other) => other === one).length);
    expect(counts).toHaveLength(9);
    expect(Math.min(...counts)).toBeGreaterThan(15);
  });
});
