import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, ones, Rng, ShapeError, setBackend, softmax, type Tensor, tensor, tidy } from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { type AttentionDistanceKind, attentionDistance } from './attention-distance.ts';

beforeAll(() => setBackend('cpu'));

const KINDS: AttentionDistanceKind[] = ['symmetric-kl', 'jensen-shannon', 'reversed-jensen-shannon'];

/** Attention to all keys, those after the query too: they must not count. */
const maps = (heads: number, seq: number, seed: number, std = 1): Tensor =>
  tidy(() => softmax(new Rng(seed).normal([heads, seq, seq], { std })));

const kl = (a: number[], b: number[]): number => a.reduce((all, x, i) => all + x * Math.log(x / b[i]), 0);

describe('attentionDistance', () => {
  it.each(KINDS)('%s is what the definition says, for every pair of heads', (kind) => {
    const [a, b] = [maps(2, 4, 1), maps(3, 4, 2)];
    const [rowsA, rowsB] = [a.arraySync(), b.arraySync()] as number[][][][];
    const got = attentionDistance(a, b, { kind });
    expect(got.shape).toEqual([2, 3]);
    const expected = rowsA.map((headA) =>
      rowsB.map((headB) => {
        let all = 0;
        for (let t = 0; t < 4; t++) {
          const [p, q] = [headA[t].slice(0, t + 1), headB[t].slice(0, t + 1)];
          const m = p.map((x, i) => (x + q[i]) / 2);
          if (kind === 'symmetric-kl') all += kl(p, q) + kl(q, p);
          else if (kind === 'jensen-shannon') all += (kl(p, m) + kl(q, m)) / 2;
          else all += (kl(m, p) + kl(m, q)) / 2;
        }
        return all / 4;
      }),
    );
    for (const [i, row] of (got.arraySync() as number[][]).entries()) {
      for (const [j, value] of row.entries()) expect(value).toBeCloseTo(expected[i][j], 5);
    }
  });

  it('is 0 for the same maps, at most ln 2 by Jensen-Shannon, and finite where probabilities are 0', () => {
    const a = tensor([1, 0, 0, 1], [1, 2, 2]);
    const b = tensor([1, 0, 1, 0], [1, 2, 2]);
    for (const kind of KINDS) {
      expect(attentionDistance(a, a, { kind }).dataSync()[0]).toBeCloseTo(0, 6);
      expect(Number.isFinite(attentionDistance(a, b, { kind }).dataSync()[0])).toBe(true);
    }
    expect(attentionDistance(a, b).dataSync()[0]).toBeCloseTo(Math.LN2 / 2, 6);
  });

  it.each(KINDS)('%s is differentiable and leaks nothing', (kind) => {
    // Nearly uniform: differences of fixed width are no measure of curvature beside small probabilities.
    const [a, b] = [maps(1, 3, 3, 0.3), maps(2, 3, 4, 0.3)];
    gradCheck((a, b) => attentionDistance(a, b, { kind }), [a, b]);
    expectNoLeak(() => attentionDistance(a, b, { kind }));
  });

  it('refuses maps that do not fit, and unknown kinds', () => {
    expect(() => attentionDistance(ones([2, 3, 3]), ones([2, 4, 4]))).toThrow(ShapeError);
    expect(() => attentionDistance(ones([3, 3]), ones([3, 3]))).toThrow(/\[heads, seq, seq\]/);
    expect(() => attentionDistance(ones([1, 3, 2]), ones([1, 3, 2]))).toThrow(ShapeError);
    expect(() => attentionDistance(ones([1, 2, 2]), ones([1, 2, 2]), { kind: 'kl' as never })).toThrow(ConfigError);
  });
});
