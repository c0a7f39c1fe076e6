import '@tensorflow/tfjs-backend-cpu';
import { memory, Rng, ShapeError, setBackend, tensor3d, zeros } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { type StructuralIntegrity, structuralIntegrity } from './index.ts';

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
    const angles = [0, 0.5, 0.5, 1];
    const row = (noise: number): Promise<StructuralIntegrity> =>
      structuralIntegrity(
        tensor3d([angles.map((angle, i) => [Math.cos(angle + noise * i), Math.sin(angle + noise * i)])]),
      );
    const [exact, noisy] = [await row(0), await row(2e-7)];
    expect(noisy.directedMonotonicity).toBeCloseTo(exact.directedMonotonicity, 6);
    expect((await row(1e-2)).directedMonotonicity).not.toBeCloseTo(exact.directedMonotonicity, 3);
  });

  it('refuses embeddings without direction and grids of one cell', async () => {
    await expect(structuralIntegrity(zeros([2, 2, 3]))).rejects.toThrow(/cell 0 is 0/);
    await expect(structuralIntegrity(new Rng(0).normal([1, 1, 3]))).rejects.toThrow(ShapeError);
    await expect(structuralIntegrity(new Rng(0).normal([2, 2, 3]), { buckets: 0 })).rejects.toThrow(/buckets is 0/);
  });
});
