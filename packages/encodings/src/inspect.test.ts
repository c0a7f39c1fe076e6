import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, memory, Rng, ShapeError, setBackend } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  Alibi,
  inspect,
  LearnedAbsolute,
  Nope,
  ReRope,
  Rope,
  Sinusoidal,
  Sinusoidal2d,
  T5RelativeBias,
} from './index.ts';

beforeAll(() => setBackend('cpu'));

describe('inspect', () => {
  it('sees that ALiBi falls with the distance, depends on it alone, and never repeats', async () => {
    const { similarity, monotonicity, shiftInvariance, symmetry, extrapolation } = await inspect(
      new Alibi({ heads: 4, symmetric: true }),
    );
    expect(similarity).toHaveLength(32);
    expect(monotonicity).toBeCloseTo(1, 6);
    expect(shiftInvariance).toBeCloseTo(1, 6);
    expect(symmetry).toBeCloseTo(1, 6);
    expect(extrapolation.similarity).toHaveLength(128);
    expect(extrapolation.unseen).toBe(1);
    // The mean of the four slopes, for one step.
    const slope = (2 ** -2 + 2 ** -4 + 2 ** -6 + 2 ** -8) / 4;
    expect(similarity[5][5] - similarity[5][4]).toBeCloseTo(slope, 5);
    expect((await inspect(new Alibi({ heads: 4 }))).symmetry).toBeCloseTo(-1, 6);
  });

  it("gives RoPE's sum of cosines", async () => {
    const { similarity, shiftInvariance, symmetry, monotonicity } = await inspect(new Rope({ headDim: 16 }));
    const expected = (distance: number): number =>
      Array.from({ length: 8 }, (_, i) => 2 * Math.cos(distance * 10000 ** (-i / 8))).reduce((a, b) => a + b) / 4;
    expect(similarity[20][13]).toBeCloseTo(expected(7), 4);
    expect(shiftInvariance).toBeCloseTo(1, 6);
    expect(symmetry).toBeCloseTo(1, 6);
    expect(monotonicity).toBeGreaterThan(0.5);
    expect(monotonicity).toBeLessThan(1);
  });

  it('sees where nothing is beyond: a table ends, ReRoPE stays, NoPE sees nothing at all', async () => {
    const learned = await inspect(new LearnedAbsolute({ maxPositions: 32, dim: 64, rng: new Rng(0) }));
    expect(learned.extrapolation.refusal).toMatch(/outside the table of 32/);
    expect(learned.extrapolation.similarity).toHaveLength(32);
    expect(learned.shiftInvariance).toBeLessThan(0.9);
    const rerope = await inspect(new ReRope({ headDim: 16, window: 16 }));
    expect(rerope.extrapolation.unseen).toBe(0);
    const nope = await inspect(new Nope());
    expect([nope.monotonicity, nope.shiftInvariance, nope.symmetry, nope.extrapolation.unseen]).toEqual([0, 1, 1, 0]);
  });

  it('takes learned biases, added encodings and grids, and leaves nothing behind', async () => {
    const before = memory().numTensors;
    const t5 = new T5RelativeBias({ heads: 4, rng: new Rng(1) });
    expect((await inspect(t5)).shiftInvariance).toBeCloseTo(1, 6);
    t5.dispose();
    expect((await inspect(new Sinusoidal({ dim: 64 }))).symmetry).toBeCloseTo(1, 6);
    const patches = await inspect(new Sinusoidal2d({ dim: 64 }), { grid: [3, 5] });
    expect(patches.similarity).toHaveLength(15);
    expect(patches.extrapolation.similarity).toHaveLength(20);
    expect(patches.shiftInvariance).toBeCloseTo(1, 5);
    expect(memory().numTensors).toBe(before);
  });

  it('names what does not fit', async () => {
    await expect(inspect(new Nope(), { length: 1 })).rejects.toThrow(ConfigError);
    await expect(inspect(new Sinusoidal({ dim: 60 }))).rejects.toThrow(ShapeError);
    await expect(inspect(new Nope(), { grid: [1, 4] })).rejects.toThrow(/grid\[0\] is 1/);
  });
});
