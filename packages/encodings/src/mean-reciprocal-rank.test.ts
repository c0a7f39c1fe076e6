import { ConfigError } from '@ashlar/tensor';
import { describe, expect, it } from 'vitest';
import { meanReciprocalRank } from './mean-reciprocal-rank.ts';

describe('meanReciprocalRank', () => {
  it('averages the reciprocal ranks, equal scores in order', () => {
    const table = [
      { none: 0.9, t5: 0.5, rope: 0.1 },
      { none: 0.2, t5: 0.5, rope: 0.2 },
      { rope: 0, t5: 0, none: 0 },
    ];
    const scores = meanReciprocalRank(table);
    expect(scores.none).toBeCloseTo((1 + 1 / 2 + 1) / 3);
    expect(scores.t5).toBeCloseTo((1 / 2 + 1 + 1 / 2) / 3);
    expect(scores.rope).toBeCloseTo(1 / 3);
  });

  it.each([
    [[], /empty/],
    [[{ a: 1 }, { b: 1 }], /setting 1 must have a number for each of a/],
    [[{ a: 1 }, { a: 1, b: 1 }], /nothing else/],
    [[{ a: Number.NaN }], /setting 0/],
  ])('refuses %j', (table, message) => {
    const call = (): unknown => meanReciprocalRank(table as Record<string, number>[]);
    expect(call).toThrow(ConfigError);
    expect(call).toThrow(message);
  });
});
