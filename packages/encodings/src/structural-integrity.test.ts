import '@tensorflow/tfjs-backend-cpu';
import { memory, Rng, reshape, ShapeError, setBackend, type Tensor3D, tensor1d, tensor3d, zeros } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { gilbertOrder, rasterOrder, sinusoidalTable, structuralIntegrity } from './index.ts';

beforeAll(() => setBackend('cpu'));

describe('structuralIntegrity', () => {
  it('is best where similarity falls alike in all directions', async () => {
    // Angles of a quarter turn at most: cosines fall with the distance along a row.
    const angles = Array.from({ length: 6 }, (_, i) => (i * Math.PI) / 12);
    const row = tensor3d([angles.map((angle) => [Math.cos(angle), Math.sin(angle)])]);
    const { undirectedMonotonicity, undirectedAsymmetry } = await structuralIntegrity(row);
    expect(undirectedMonotonicity).toBeCloseTo(2, 6);
    expect(undirectedAsymmetry).toBeCloseTo(0, 6);
  });

  it('does not depend on lengths, and leaves nothing behind', async () => {
    const before = memory().numTensors;
    const x = new Rng(1).normal([3, 4, 5]);
    const doubled = tensor3d(
      x.dataSync().map((value) => 2 * value),
      [3, 4, 5],
    );
    expect(await structuralIntegrity(doubled, { buckets: 8 })).toEqual(await structuralIntegrity(x, { buckets: 8 }));
    x.dispose();
    doubled.dispose();
    expect(memory().numTensors).toBe(before);
  });

  it('takes similarities that differ by rounding for equal', async () => {
    // Cells as far apart along the raster have the same similarity, left and right of one another.
    const raster = (scale: number): Tensor3D => {
      const places = tensor1d(Array.from({ length: 28 }, (_, i) => i + scale));
      return reshape(sinusoidalTable(places, 16, { base: 100 }), [4, 7, 16]) as Tensor3D;
    };
    const [here, there] = [raster(0), raster(10)];
    const [a, b] = [await structuralIntegrity(here, { buckets: 4 }), await structuralIntegrity(there, { buckets: 4 })];
    expect(a.directedMonotonicity).toBeCloseTo(1.464676, 6);
    expect(b.directedMonotonicity).toBe(a.directedMonotonicity);
  });

  // Of similarities in exact arithmetic, mean cos(w (x_a - x_b)); the first two rows round to the published table.
  it.each([
    ['raster', rasterOrder, 14, 14, 768, 60, [1.956668, 1.49049, 0.12429]],
    ['Gilbert', gilbertOrder, 14, 14, 768, 60, [1.967407, 1.289951, 0.093873]],
    ['Gilbert', gilbertOrder, 8, 8, 64, 12, [1.936912, 1.350204, 0.08518]],
    // In one direction, where cells 2 and 9 away are as far as those 6 and 7 away.
    ['raster', rasterOrder, 10, 10, 16, 1, [1.741275, 1.297686, 0.235355]],
    ['raster', rasterOrder, 4, 7, 16, 4, [1.707993, 1.460429, 0.122968]],
  ] as const)(
    'ranks sinusoids in %s order as exact arithmetic does',
    async (_, order, height, width, dim, buckets, exact) => {
      const places = tensor1d(Float32Array.from(order(height, width)));
      const embedding = reshape(sinusoidalTable(places, dim), [height, width, dim]);
      const found = await structuralIntegrity(embedding, { buckets });
      const { undirectedMonotonicity, directedMonotonicity, undirectedAsymmetry } = found;
      expect([undirectedMonotonicity, directedMonotonicity, undirectedAsymmetry]).toEqual(
        exact.map((value) => expect.closeTo(value, 5)),
      );
    },
  );

  it('refuses embeddings without direction and grids of one cell', async () => {
    await expect(structuralIntegrity(zeros([2, 2, 3]))).rejects.toThrow(/cell 0 is 0/);
    const broken = tensor3d([
      [
        [1, 2],
        [Number.NaN, 1],
      ],
    ]);
    await expect(structuralIntegrity(broken)).rejects.toThrow(/cell 1 is not finite/);
    await expect(structuralIntegrity(new Rng(0).normal([1, 1, 3]))).rejects.toThrow(ShapeError);
    await expect(structuralIntegrity(new Rng(0).normal([2, 2, 3]), { buckets: 0 })).rejects.toThrow(/buckets is 0/);
  });
});
