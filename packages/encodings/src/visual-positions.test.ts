import '@tensorflow/tfjs-backend-cpu';
import { attend } from '@ashlar/nn';
import { ConfigError, gather, Rng, setBackend, slice, type Tensor, tensor1d, tidy } from '@ashlar/tensor';
import { expectNoLeak } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { ColumnEmbedding, Rope, visualPositions } from './index.ts';

beforeAll(() => setBackend('cpu'));

const layout = { textBefore: 1, grids: [{ rows: 2, columns: 3 }], textAfter: 2 };

describe('visualPositions', () => {
  it('takes fewer positions the more tokens share one', () => {
    const used = (scheme: 'original' | 'share_all' | 'share_by_row' | 'share_by_row_col'): number =>
      visualPositions({ ...layout, grids: [{ rows: 64, columns: 64 }], scheme }).usedByVision;
    expect([used('original'), used('share_by_row'), used('share_by_row_col'), used('share_all')]).toEqual([
      4096, 64, 64, 1,
    ]);
    expect(Array.from(visualPositions(layout).ids)).toEqual([0, 1, 1, 1, 2, 2, 2, 3, 4]);
    expect(visualPositions(layout).used).toBe(5);
  });

  it('hides the order of the tokens of a picture that share all, from the text after it', () => {
    const { ids } = visualPositions({ ...layout, scheme: 'share_all' });
    const positions = tensor1d(ids, 'int32');
    const encoding = new Rope({ headDim: 4 });
    const last = (x: Tensor): ArrayLike<number> =>
      tidy(() =>
        slice(attend(x, x, x, { encoding, qPositions: positions, kPositions: positions, causal: true }), [0, 0, 8, 0]),
      ).dataSync();
    const x = new Rng(1).normal([1, 1, 9, 4]);
    const shuffled = gather(x, tensor1d([0, 4, 2, 6, 1, 5, 3, 7, 8], 'int32'), 2);
    for (const [i, value] of Array.from(last(shuffled)).entries()) expect(value).toBeCloseTo(last(x)[i], 5);
  });

  it('adds a vector for each column to visual tokens alone', () => {
    const { columnIndex } = visualPositions({ ...layout, scheme: 'share_by_row_col' });
    const columns = new ColumnEmbedding({ maxColumns: 3, dim: 2 });
    expect(
      columns
        .apply(columnIndex)
        .dataSync()
        .every((value) => value === 0),
    ).toBe(true);
    columns.weight.assign(new Rng(2).normal([3, 2]));
    const rows = columns.apply(columnIndex).arraySync() as number[][];
    const table = columns.weight.stored.arraySync() as number[][];
    const expected = [[0, 0], ...table, ...table, [0, 0], [0, 0]].flat();
    for (const [i, value] of rows.flat().entries()) expect(value).toBeCloseTo(expected[i], 6);
    expectNoLeak(() => columns.apply(columnIndex));
  });

  it('refuses unknown schemes, empty grids and columns beyond the table', () => {
    expect(() => visualPositions({ ...layout, scheme: 'share' as 'share_all' })).toThrow(/scheme is "share"/);
    expect(() => visualPositions({ ...layout, grids: [] })).toThrow(ConfigError);
    expect(() => visualPositions({ ...layout, grids: [{ rows: 2, columns: 0 }] })).toThrow(/grids\[0\]\.columns is 0/);
    expect(() => new ColumnEmbedding({ maxColumns: 2, dim: 2 }).apply([0, 2])).toThrow(/column 2 is outside/);
  });
});
