import '@tensorflow/tfjs-backend-cpu';
import { abs, ConfigError, max, Rng, setBackend, stateDict, sub, type Tensor, tidy, zeros } from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { PositionInjection, type PositionInjectionOptions } from './position-injection.ts';

beforeAll(() => setBackend('cpu'));

const injectionOf = (options: Partial<PositionInjectionOptions> = {}): PositionInjection =>
  new PositionInjection({ mode: 'attn_mul', peDim: 8, heads: 4, rng: new Rng(0), ...options });

const distance = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);

describe('PositionInjection', () => {
  it.each(['attn_mul', 'attn_add', 'attn_scalar'] as const)(
    '%s: shapes, gradients, no leak, fewer key heads',
    (mode) => {
      const injection = injectionOf({ mode, kvHeads: 2, headDim: 2 });
      expect([...stateDict(injection)].map(([name, { shape }]) => [name, shape])).toEqual([
        ['pe_qk.weight', [12, 8]],
        ['pe_qk.bias', [12]],
      ]);
      const [q, k] = [new Rng(1).normal([1, 4, 2, 2]), new Rng(2).normal([1, 2, 3, 2])];
      const [qPe, kPe] = [new Rng(3).normal([2, 8], { std: 10 }), new Rng(4).normal([3, 8], { std: 10 })];
      const run = (q: Tensor, k: Tensor, qPe: Tensor, kPe: Tensor): Tensor[] => {
        const [pq, pk] = injection.apply(qPe, kPe);
        return mode === 'attn_scalar' ? [injection.bias(pq, pk)] : injection.modulate(q, k, pq, pk);
      };
      const shapes = run(q, k, qPe, kPe).map(({ shape }) => shape);
      expect(shapes).toEqual(mode === 'attn_scalar' ? [[4, 2, 3]] : [q.shape, k.shape]);
      gradCheck((...xs) => tidy(() => run(xs[0], xs[1], xs[2], xs[3])), [q, k, qPe, kPe], { order: 2 });
      expectNoLeak(() => tidy(() => run(q, k, qPe, kPe)));
    },
  );

  it('gives the key heads of a group the same positions', () => {
    const injection = injectionOf({ mode: 'attn_scalar', kvHeads: 1, headDim: 2 });
    const pe = new Rng(3).normal([3, 8], { std: 10 });
    const [pq, pk] = injection.apply(pe);
    expect([pq.shape, pk.shape]).toEqual([
      [4, 3, 2],
      [1, 3, 2],
    ]);
    const bias = injection.bias(pq, pk).arraySync() as number[][][];
    const [queries, keys] = [pq.arraySync() as number[][][], pk.arraySync() as number[][][]];
    for (const head of [0, 3]) {
      const product = queries[head][2].reduce((sum, x, i) => sum + x * keys[0][1][i], 0);
      expect(bias[head][2][1]).toBeCloseTo(product / Math.sqrt(2), 5);
    }
  });

  it('gives all heads the whole without perHead', () => {
    const injection = injectionOf({ mode: 'attn_scalar', perHead: false, headDim: 2, scalarScale: 3 });
    const pe = new Rng(3).normal([3, 8], { std: 10 });
    const [pq, pk] = injection.apply(pe);
    expect(pq.shape).toEqual([1, 3, 8]);
    const bias = injection.bias(pq, pk).arraySync() as number[][][];
    expect(bias).toHaveLength(4);
    expect(bias[0]).toEqual(bias[3]);
    const [queries, keys] = [pq.arraySync() as number[][][], pk.arraySync() as number[][][]];
    const product = queries[0][1].reduce((sum, x, i) => sum + x * keys[0][0][i], 0);
    expect(bias[0][1][0]).toBeCloseTo((3 * product) / Math.sqrt(2), 4);
    const own = injectionOf({ perHead: false, headDim: 8 });
    const q = new Rng(1).normal([1, 4, 3, 8]);
    const [ownQ, ownK] = own.apply(pe);
    expect(own.modulate(q, q, ownQ, ownK)[0].shape).toEqual(q.shape);
  });

  it('has no bias without projectionBias: no position, no part', () => {
    const injection = injectionOf({ projectionBias: false });
    expect([...stateDict(injection).keys()]).toEqual(['pe_qk.weight']);
    const [pq, pk] = injection.apply(zeros([3, 8]));
    expect([...pq.dataSync(), ...pk.dataSync()].every((x) => x === 0)).toBe(true);
  });

  it('is the same from the same seed', () => {
    const weight = (seed: number): Tensor => injectionOf({ rng: new Rng(seed) }).pe_qk.weight.stored;
    expect(distance(weight(1), weight(1))).toBe(0);
    expect(distance(weight(1), weight(2))).toBeGreaterThan(1e-3);
  });

  it('refuses sizes that do not fit', () => {
    expect(() => injectionOf({ headDim: 4 })).toThrow(/headDim is 4; in mode 'attn_mul' it must be 2, peDim \/ heads/);
    expect(() => injectionOf({ mode: 'attn_add', perHead: false, headDim: 2 })).toThrow(/must be 8, peDim/);
    expect(() => injectionOf({ mode: 'attn_scalar', headDim: 4 })).not.toThrow();
    expect(() => injectionOf({ mode: 'attn_scalar' })).toThrow(/headDim is missing/);
    expect(() => injectionOf({ heads: 3 })).toThrow(ConfigError);
    expect(() => injectionOf({ heads: 3, headDim: 2, mode: 'attn_scalar' })).toThrow(/must divide peDim, 8/);
    expect(() => injectionOf({ kvHeads: 3 })).toThrow(/kvHeads is 3; it must divide heads, 4/);
    expect(() => injectionOf({ mode: 'mul' as 'attn_mul' })).toThrow(/may be "attn_mul"/);
    const [pq, pk] = injectionOf().apply(new Rng(3).normal([3, 8]));
    const q = new Rng(1).normal([1, 4, 3, 4]);
    expect(() => injectionOf().modulate(q, q, pq, pk)).toThrow(
      /as their positions in heads, length and headDim, not \[1,4,3,4\]/,
    );
  });
});
