import '@tensorflow/tfjs-backend-cpu';
import { add, ConfigError, mul, Rng, ShapeError, setBackend, type Tensor, tensor3d, zeros } from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { shortestPathTask, upperTriangleMse } from './index.ts';

beforeAll(() => setBackend('cpu'));

const options = { n: 6, samples: 20, low: 1, high: 4, extraNodes: 1 };

describe('shortestPathTask', () => {
  it('gives the distances of path graphs, in many orders', () => {
    const { x, y } = shortestPathTask(options, new Rng(1));
    expect([x.shape, y.shape]).toEqual([
      [20, 7, 6],
      [20, 7, 6],
    ]);
    const [edges, distances] = [x, y].map((t) => t.arraySync() as number[][][]);
    const ends = new Set<string>();
    for (const [sample, rows] of edges.entries()) {
      const graph = rows.slice(0, 6);
      // Floyd and Warshall's algorithm, which knows nothing of paths.
      const shortest = graph.map((row, i) => row.map((weight, j) => (i === j ? 0 : weight || Infinity)));
      for (let k = 0; k < 6; k++) {
        for (let i = 0; i < 6; i++) {
          for (let j = 0; j < 6; j++) shortest[i][j] = Math.min(shortest[i][j], shortest[i][k] + shortest[k][j]);
        }
      }
      for (const [i, row] of shortest.entries()) {
        for (const [j, distance] of row.entries()) expect(distances[sample][i][j]).toBeCloseTo(distance, 4);
      }
      const degrees = graph.map((row) => row.filter((weight) => weight !== 0).length);
      expect(degrees.toSorted()).toEqual([1, 1, 2, 2, 2, 2]);
      ends.add(degrees.join());
      expect([rows[6], distances[sample][6]]).toEqual([Array(6).fill(0), Array(6).fill(0)]);
    }
    expect(ends.size).toBeGreaterThan(5);
    expect(shortestPathTask(options, new Rng(1)).x.dataSync()).toEqual(x.dataSync());
    expect(shortestPathTask(options, new Rng(2)).x.dataSync()).not.toEqual(x.dataSync());
    expectNoLeak(() => shortestPathTask(options, new Rng(1)));
  });

  it('refuses what makes no graph', () => {
    expect(() => shortestPathTask({ ...options, n: 1 }, new Rng(0))).toThrow(/n is 1/);
    expect(() => shortestPathTask({ ...options, low: 5 }, new Rng(0))).toThrow(ConfigError);
  });
});

describe('upperTriangleMse', () => {
  it('counts each pair of nodes once, and no extra node', () => {
    const y = zeros([2, 3, 2]) as Tensor;
    const off = tensor3d([
      [
        [9, 3],
        [9, 9],
        [9, 9],
      ],
      [
        [9, 1],
        [9, 9],
        [9, 9],
      ],
    ]);
    expect(upperTriangleMse(add(y, off), y).dataSync()[0]).toBeCloseTo((9 + 1) / 2, 5);
    const target = new Rng(3).normal([2, 4, 3]);
    gradCheck((x) => upperTriangleMse(mul(x, x), target), [new Rng(4).normal([2, 4, 3])]);
    expectNoLeak(() => upperTriangleMse(off, y));
    expect(() => upperTriangleMse(zeros([1, 2, 3]), zeros([1, 2, 3]))).toThrow(ShapeError);
  });
});
