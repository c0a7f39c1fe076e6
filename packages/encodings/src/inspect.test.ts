import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, memory, type PositionEncoding, Rng, ShapeError, setBackend } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  Alibi,
  FourierFeatures,
  inspect,
  LearnedAbsolute,
  MdTpe,
  Nope,
  ReRope,
  Rope,
  SeqPe,
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

  it('looks at grids of three axes', async () => {
    const rope = await inspect(new Rope({ headDim: 12, axes: 3 }), { grid: [2, 3, 4], headDim: 12 });
    expect(rope.causal).toBe(false);
    expect(rope.similarity).toHaveLength(24);
    expect(rope.shiftInvariance).toBeCloseTo(1, 5);
    // From [0, 0, 0], the first place: [0, 0, 1] is next, [0, 1, 0] fifth and [1, 0, 0] thirteenth.
    expect(rope.similarity[0][1]).toBeCloseTo(rope.similarity[0][4], 5);
    expect(rope.similarity[0][1]).toBeCloseTo(rope.similarity[0][12], 5);
    expect(rope.similarity[0][23]).toBeLessThan(rope.similarity[0][1]);
    expect(rope.extrapolation).toMatchObject({ trained: 4, similarity: { length: 16 } });
    expect(rope.extrapolation.similarity[1]).toBeCloseTo(rope.similarity[0][1], 5);
  });

  it('asks modules in eval mode, and leaves them in theirs', async () => {
    const encoder = { dim: 16, heads: 2, dropout: 0.5 };
    const seqpe = new SeqPe({
      ...{ mode: 'attn_scalar', encoder, heads: 4, headDim: 16, maxPosition: 200, rng: new Rng(0) },
      training: { window: 8, shiftRate: 1, contrastive: { candidates: 4 } },
    });
    seqpe.injections[0].eval();
    const first = await inspect(seqpe, { length: 8 });
    expect(first.extrapolation.refusal).toBeUndefined();
    expect(await inspect(seqpe, { length: 8 })).toEqual(first);
    expect([seqpe.training, seqpe.encoder.training, seqpe.injections[0].training]).toEqual([true, true, false]);
    await expect(inspect(seqpe, { length: 8, heads: 2 })).rejects.toThrow(ShapeError);
    expect(seqpe.training).toBe(true);
    seqpe.dispose();
  });

  it('refuses biases for other heads', async () => {
    for (const encoding of [new Alibi({ heads: 8 }), new T5RelativeBias({ heads: 8, rng: new Rng(0) })]) {
      await expect(inspect(encoding)).rejects.toThrow(ShapeError);
      await expect(inspect(encoding)).rejects.toThrow(/biases for 8 heads, not 4/);
      expect((await inspect(encoding, { heads: 8 })).shiftInvariance).toBeCloseTo(1, 5);
    }
  });

  it('refuses what is no encoding', async () => {
    const rng = new Rng(0);
    const strangers = [new MdTpe({ dim: 16, heads: 4, rng }), new FourierFeatures({ axes: 2, features: 4, rng }), Rope];
    for (const stranger of strangers) await expect(inspect(stranger as PositionEncoding)).rejects.toThrow(ConfigError);
  });

  it('names what does not fit', async () => {
    await expect(inspect(new Nope(), { length: 2 })).rejects.toThrow(/length is 2; .* >= 3 and <= 2048/);
    await expect(inspect(new Nope(), { length: 100_000 })).rejects.toThrow(ConfigError);
    await expect(inspect(new Nope(), { reach: 1e9 })).rejects.toThrow(/reach times 32 is 32000000000/);
    await expect(inspect(new Nope(), { grid: [100, 100] })).rejects.toThrow(/10000 positions; .* at most 2048/);
    await expect(inspect(new Nope(), { grid: [100] })).rejects.toThrow(/two sides or more: for one axis, give length/);
    expect((await inspect(new Alibi({ heads: 4 }), { length: 3 })).monotonicity).toBeCloseTo(1, 6);
    await expect(inspect(new Sinusoidal({ dim: 60 }))).rejects.toThrow(ShapeError);
    await expect(inspect(new Nope(), { grid: [1, 4] })).rejects.toThrow(/grid\[0\] is 1/);
  });
});
