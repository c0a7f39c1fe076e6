import '@tensorflow/tfjs-backend-cpu';
import { attend } from '@ashlar/nn';
import {
  abs,
  ConfigError,
  concat,
  max,
  NumericsError,
  type PositionEncoding,
  Rng,
  ShapeError,
  setBackend,
  slice,
  sub,
  type Tensor,
  tensor,
  tidy,
} from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  Dpe,
  DualChunk,
  detectScales,
  keyDimensionScores,
  ReRope,
  Rope,
  SelfExtend,
  selectKeyDimensions,
} from './index.ts';
import type { RegionalRope } from './regional-rope.ts';

const [HEADS, DIM, SEQ] = [2, 8, 12];
const rng = new Rng(3);

beforeAll(() => setBackend('cpu'));

const q = (): Tensor => rng.fork('q').normal([1, HEADS, SEQ, DIM]);
const k = (): Tensor => rng.fork('k').normal([1, 1, SEQ, DIM]);
const run = (encoding: PositionEncoding): Tensor => attend(q(), k(), k(), { encoding, causal: true });
const distance = (a: PositionEncoding, b: PositionEncoding): number =>
  tidy(() => max(abs(sub(run(a), run(b)))).dataSync()[0]);

describe('encodings by region', () => {
  const rope = new Rope({ headDim: DIM });

  it.each([
    ['Dpe', new Dpe({ headDim: DIM, window: SEQ, scales: [2, 8] })],
    ['Dpe with scale 1', new Dpe({ headDim: DIM, window: 2, scales: [1, 1] })],
    ['SelfExtend', new SelfExtend({ headDim: DIM, window: SEQ, group: 4 })],
    ['SelfExtend with groups of one', new SelfExtend({ headDim: DIM, window: 2, group: 1 })],
    ['ReRope', new ReRope({ headDim: DIM, window: SEQ })],
    ['DualChunk', new DualChunk({ headDim: DIM, chunkSize: SEQ + 1, localWindow: 1 })],
  ])('%s is plain RoPE within its window', (_, encoding) => {
    expect(distance(encoding, rope)).toBeLessThan(1e-5);
  });

  it('differ from plain RoPE beyond it, and from one another', () => {
    const all = [
      rope,
      new Dpe({ headDim: DIM, window: 4, scales: [2, 4] }),
      new SelfExtend({ headDim: DIM, window: 4, group: 2 }),
      new ReRope({ headDim: DIM, window: 4 }),
      new ReRope({ headDim: DIM, window: 4, group: 2 }),
      new ReRope({ headDim: DIM, window: 4, trainedLength: 6 }),
      new DualChunk({ headDim: DIM, chunkSize: 6, localWindow: 2 }),
    ];
    for (const [i, a] of all.entries()) {
      for (const b of all.slice(i + 1)) expect(distance(a, b)).toBeGreaterThan(1e-4);
    }
  });

  it('are one another where they should: DPE of equal scales Self-Extend, of endless ones ReRoPE', () => {
    const dpe = (scale: number, window: number): Dpe => new Dpe({ headDim: DIM, window, scales: [scale, scale] });
    expect(distance(dpe(2, 4), new SelfExtend({ headDim: DIM, window: 4, group: 2 }))).toBe(0);
    expect(distance(dpe(2 ** 40, 4), new ReRope({ headDim: DIM, window: 4 }))).toBeLessThan(1e-5);
    expect(distance(new ReRope({ headDim: DIM, window: 4, group: 1 }), rope)).toBeLessThan(1e-5);
  });

  it.each([
    ['Dpe', (window: number) => new Dpe({ headDim: DIM, window, scales: [4, 2] })],
    ['SelfExtend', (window: number) => new SelfExtend({ headDim: DIM, window, group: 4 })],
    ['ReRope', (window: number) => new ReRope({ headDim: DIM, window, group: 3, trainedLength: 8 })],
    ['DualChunk', (window: number) => new DualChunk({ headDim: DIM, chunkSize: window + 2, localWindow: 2 })],
  ])('decode in steps what a full pass computes: %s, scales dividing the window or not', (_, make) => {
    for (const window of [4, 5, 6]) {
      const options = { encoding: make(window), causal: true };
      const whole = attend(q(), k(), k(), options);
      const steps = Array.from({ length: SEQ }, (_, i) => {
        const keys = slice(k(), [0, 0, 0, 0], [-1, -1, i + 1, -1]);
        return attend(slice(q(), [0, 0, i, 0], [-1, -1, 1, -1]), keys, keys, options);
      });
      expect(max(abs(sub(concat(steps, 2), whole))).dataSync()[0]).toBeLessThan(1e-5);
    }
  });

  it('scale the chosen pairs of each head alone', () => {
    const [all, none] = [true, false].map((value) => [Array(HEADS).fill(Array(DIM / 2).fill(value)) as boolean[][]]);
    const dpe = (keyDimensions?: boolean[][][]): Dpe =>
      new Dpe({ headDim: DIM, window: 4, scales: [2, 4], keyDimensions });
    expect(distance(dpe(all), dpe())).toBe(0);
    expect(distance(dpe(none), rope)).toBeLessThan(1e-5);
    expect(() => attend(q(), k(), k(), { encoding: dpe(all), layer: 1 })).toThrow(
      /keyDimensions has 1 layers; layer 1/,
    );
    const oneHead = new Dpe({ headDim: DIM, window: 4, scales: [2, 4], keyDimensions: [all[0].slice(1)] });
    expect(() => run(oneHead)).toThrow(/keyDimensions has 1 heads in layer 0; the model has 2/);
    expect(() => run(oneHead)).toThrow(ShapeError);
  });

  it('count each pair: an interleaved layout is a half one with its channels moved', () => {
    const moved = (x: Tensor): Tensor => {
      const values = Array.from(x.dataSync());
      const from = (i: number): number => i - (i % DIM) + (i % 2) * (DIM / 2) + ((i % DIM) >> 1);
      return tensor(
        values.map((_, i) => values[from(i)]),
        x.shape,
      );
    };
    const half = new SelfExtend({ headDim: DIM, window: 4, group: 2 });
    const interleaved = new SelfExtend({ headDim: DIM, window: 4, group: 2, layout: 'interleaved' });
    const a = attend(q(), k(), k(), { encoding: half, causal: true });
    const b = attend(moved(q()), moved(k()), k(), { encoding: interleaved, causal: true });
    expect(max(abs(sub(a, b))).dataSync()[0]).toBeLessThan(1e-5);
  });

  it.each([
    [() => new Dpe({ headDim: 7, scales: [1] }), ShapeError, /headDim is 7; channels come in pairs/],
    [
      () => new Dpe({ headDim: DIM, scales: [0.5, 1] }),
      ConfigError,
      /scales\[0\] is 0\.5; it must be a whole number >= 1/,
    ],
    [() => new Dpe({ headDim: DIM, scales: [] }), ConfigError, /scales is empty/],
    [() => new Dpe({ headDim: DIM } as never), ConfigError, /scales is empty/],
    [() => new Dpe({ headDim: DIM, scales: [1, 2, 4] }), ConfigError, /groups is \[0,1\.33.*must rise from 0 to 4/],
    [
      () => new Dpe({ headDim: DIM, scales: [1, 2], groups: [0, 3, 3] }),
      ConfigError,
      /must rise from 0 to 4, .* in 2 steps/,
    ],
    [() => new Dpe({ headDim: DIM, scales: [1, 2], window: 0 }), ConfigError, /window is 0/],
    [
      () => new Dpe({ headDim: DIM, scales: [1], keyDimensions: [[[true]]] }),
      ConfigError,
      /has 1 pairs for a head; it must have 4/,
    ],
    [() => new Dpe({ headDim: DIM, scales: [1], groups: 4 as never }), ConfigError, /groups is 4; it must rise from 0/],
    ...['8', [[true]], [[['yes']]], [[null]]].map((keyDimensions): [() => Dpe, typeof ConfigError, RegExp] => [
      () => new Dpe({ headDim: DIM, scales: [1], keyDimensions: keyDimensions as never }),
      ConfigError,
      /keyDimensions is .*; it must be true or false for each pair, \[layers\]\[heads\]\[4\]/,
    ]),
    ...[Dpe, SelfExtend, ReRope, DualChunk].map((Encoding): [() => RegionalRope, typeof ConfigError, RegExp] => [
      () => new Encoding(undefined as never),
      ConfigError,
      new RegExp(`^${Encoding.name}: headDim is undefined`),
    ]),
    [() => new SelfExtend({ headDim: DIM, window: 4, group: 0 }), ConfigError, /group is 0/],
    [() => new ReRope({ headDim: DIM, window: 4, group: 0.5 }), ConfigError, /group is 0\.5/],
    [() => new ReRope({ headDim: DIM, window: 4, group: '4' as never }), ConfigError, /group is "4"/],
    [() => new ReRope({ headDim: DIM, window: 4, group: Number.NaN }), ConfigError, /group is NaN/],
    [() => new ReRope({ headDim: DIM, window: 4, trainedLength: 1 }), ConfigError, /trainedLength is 1/],
    [
      () => new DualChunk({ headDim: DIM, chunkSize: 4, localWindow: 4 }),
      ConfigError,
      /localWindow is 4; it must be below/,
    ],
  ])('refuse %s', (make, error, message) => {
    expect(make).toThrow(error);
    expect(make).toThrow(message);
  });

  it('take whole positions of one axis', () => {
    const encoding = new ReRope({ headDim: DIM, window: 4 });
    const at = (positions: Tensor) => () =>
      attend(q(), q(), q(), { encoding, kPositions: positions, qPositions: positions });
    expect(at(tensor(Array(SEQ).fill(0.5)))).toThrow(/takes whole positions, not 0\.5/);
    expect(at(tensor(Array(SEQ).fill(-2)))).toThrow(/takes positions from 0, not -2 \(index 0\); shift them/);
    expect(at(tensor(Array(2 * SEQ).fill(1), [SEQ, 2]))).toThrow(ShapeError);
  });
});

describe('key dimensions', () => {
  it('are the pairs with the longest queries and keys', async () => {
    const [q, k] = [tensor([3, 0, 4, 1, 0, 2, 0, 1], [1, 2, 1, 4]), tensor([1, 1, 0, 0], [1, 1, 1, 4])];
    const scores = keyDimensionScores(q, k);
    expect(Array.from(scores.dataSync()).map((x) => Math.round(100 * x) / 100)).toEqual([5, 1, 0, 2.24]);
    expect(await selectKeyDimensions(scores, 1)).toEqual([
      [true, false],
      [false, true],
    ]);
    await expect(selectKeyDimensions(scores, 3)).rejects.toThrow(/topK is 3; a head has 2 pairs/);
    expect(() => keyDimensionScores(q, tensor([1, 1, 0, 0], [1, 1, 2, 2]))).toThrow(ShapeError);
    expect(() => keyDimensionScores(q, k, 'x' as never)).toThrow(/layout is "x"/);
    await expect(selectKeyDimensions(tensor([1, 2]), 1)).rejects.toThrow(/scores \[heads, pairs\], not \[2\]/);
    await expect(selectKeyDimensions(tensor([[1, Number.NaN]]), 1)).rejects.toThrow(NumericsError);
  });

  it('and scales are found one group at a time', async () => {
    const wanted = [4, 1, 8];
    const tried: string[] = [];
    const evaluate = (scales: readonly number[]): number => {
      tried.push(String(scales));
      return -scales.reduce((sum, scale, i) => sum + Math.abs(Math.log2(scale / wanted[i])), 0);
    };
    expect(await detectScales(evaluate, { groups: 3, candidates: [1, 2, 4, 8], fallback: 2 })).toEqual(wanted);
    expect(tried.slice(0, 2)).toEqual(['1,2,2', '2,2,2']);
    expect(await detectScales(() => 1, { groups: 2, candidates: [1, 8, 4], fallback: 4 })).toEqual([4, 4]);
    const detect = (options: object, value = 1): Promise<number[]> =>
      detectScales(() => value, { groups: 1, candidates: [2], fallback: 4, ...options });
    await expect(detect({ candidates: [] })).rejects.toThrow(/candidates is empty; give the scales to try/);
    await expect(detect({ candidates: [2, -1] })).rejects.toThrow(/candidates\[1\] is -1/);
    await expect(detect({ fallback: Number.NaN })).rejects.toThrow(/fallback is NaN/);
    await expect(detect({}, Number.NaN)).rejects.toThrow(/evaluate gave NaN for the scales 2/);
  });
});
