import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, Rng, setBackend } from '@ashlar/tensor';
import { expectNoLeak } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { needleTask } from './index.ts';

beforeAll(() => setBackend('cpu'));

describe('needleTask', () => {
  it('hides one marked value and asks for it at the end', () => {
    const { ids, labels } = needleTask({ count: 200, length: 9, symbols: 5 }, new Rng(1));
    expect([ids.shape, ids.dtype, labels.dtype]).toEqual([[200, 9], 'int32', 'int32']);
    const places = new Set<number>();
    const rows = ids.arraySync();
    for (const [i, label] of labels.arraySync().entries()) {
      const place = rows[i].indexOf(5);
      places.add(place);
      expect(rows[i][place + 1]).toBe(label);
      expect(rows[i].filter((id) => id === 5)).toHaveLength(1);
      expect(rows[i].indexOf(6)).toBe(8);
      expect(label).toBeLessThan(5);
    }
    expect([...places].sort()).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it('is the same for the same seed, and leaves nothing but its result', () => {
    const draw = (seed: number): string => needleTask({ count: 3, length: 6 }, new Rng(seed)).ids.toString();
    expect(draw(1)).toBe(draw(1));
    expect(draw(1)).not.toBe(draw(2));
    expectNoLeak(() => Object.values(needleTask({ count: 3, length: 6 }, new Rng(1))));
  });

  it('names an option out of range', () => {
    expect(() => needleTask({ count: 1, length: 3 }, new Rng(0))).toThrow(ConfigError);
    expect(() => needleTask({ count: 1, length: 8, symbols: 1 }, new Rng(0))).toThrow(/symbols is 1/);
  });
});
