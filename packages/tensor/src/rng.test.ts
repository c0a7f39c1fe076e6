import '@tensorflow/tfjs-backend-cpu';
import { memory, setBackend, type Tensor } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, FormatError, ShapeError } from './errors.ts';
import { philox4x32 } from './philox.ts';
import { Rng, type RngState } from './rng.ts';

/** Computed by an independent implementation, in Python. */
const PINNED = {
  normal: [-0.21535320580005646, -0.21576553583145142, 2.019942283630371, -0.5097425580024719],
  fork: [2848195639, 1941882055, 2793933323],
  permutation: [5, 6, 2, 3, 7, 0, 4, 1],
};

beforeAll(async () => {
  await setBackend('cpu');
});

function read(tensor: Tensor): Float64Array {
  const values = Float64Array.from(tensor.dataSync());
  tensor.dispose();
  return values;
}

function moments(values: ArrayLike<number>): { mean: number; std: number; skew: number; kurtosis: number } {
  const n = values.length;
  const array = Array.from(values);
  const mean = array.reduce((sum, x) => sum + x, 0) / n;
  const central = (power: number): number => array.reduce((sum, x) => sum + (x - mean) ** power, 0) / n;
  const std = Math.sqrt(central(2));
  return { mean, std, skew: central(3) / std ** 3, kurtosis: central(4) / std ** 4 };
}

function chiSquare(counts: ArrayLike<number>, expected: ArrayLike<number>): number {
  return Array.from(counts).reduce((sum, count, i) => sum + (count - expected[i]) ** 2 / expected[i], 0);
}

/** Kolmogorov-Smirnov: the statistic times the square root of the sample size; above 1.95 once in 1000. */
function kolmogorov(values: ArrayLike<number>, cdf: (x: number) => number): number {
  const sorted = Float64Array.from(values).sort();
  const n = sorted.length;
  let d = 0;
  sorted.forEach((x, i) => {
    d = Math.max(d, Math.abs(cdf(x) - i / n), Math.abs((i + 1) / n - cdf(x)));
  });
  return d * Math.sqrt(n);
}

/** Normal distribution function by Simpson's rule on the density: accurate to 1e-9 for |x| < 9. */
function normalCdf(x: number): number {
  const steps = 200;
  const h = x / steps;
  const density = (t: number): number => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  let sum = density(0) + density(x);
  for (let i = 1; i < steps; i++) sum += (i % 2 ? 4 : 2) * density(i * h);
  return 0.5 + (sum * h) / 3;
}

describe('streams', () => {
  it('starts with the blocks of Philox for the seed', () => {
    const words = new Rng(0).uint32(4);
    expect(Array.from(words)).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  });

  it('keeps its numbers from release to release', () => {
    expect(Array.from(new Rng(7).normalArray(4))).toEqual(PINNED.normal);
    expect(Array.from(new Rng('seed').fork('weights').uint32(3))).toEqual(PINNED.fork);
    expect(Array.from(new Rng(7).permutation(8))).toEqual(PINNED.permutation);
  });

  it('takes numbers, bigints and strings as seeds', () => {
    expect(new Rng(5).state()).toEqual(new Rng(5n).state());
    expect(new Rng(2 ** 40 + 3).state().key).toEqual([3, 256]);
    expect(new Rng('5').state().key).not.toEqual(new Rng(5).state().key);
    expect(new Rng(2n ** 64n - 1n).state().key).toEqual([0xffffffff, 0xffffffff]);
    for (const seed of [-1, 0.5, Number.NaN, 2 ** 53, -1n, 2n ** 64n]) {
      expect(() => new Rng(seed)).toThrow(ConfigError);
    }
    expect(() => new Rng(undefined as unknown as number)).toThrow(/seed is undefined/);
  });

  it('is the same however it is cut into draws', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(150), { maxLength: 6 }), (sizes) => {
        const rng = new Rng(3);
        const parts = sizes.flatMap((n) => Array.from(rng.uint32(n)));
        expect(parts).toEqual(Array.from(new Rng(3).uint32(parts.length)));
        expect(rng.state().counter).toBe(parts.length);
      }),
      { numRuns: 30 },
    );
  });

  it('resumes bit-exactly from a state that went through JSON', () => {
    fc.assert(
      fc.property(fc.nat(300), (n) => {
        const rng = new Rng('resume');
        rng.uint32(n);
        const resumed = Rng.fromState(JSON.parse(JSON.stringify(rng.state())));
        expect(resumed.state()).toEqual(rng.state());
        expect(resumed.normalArray(9)).toEqual(rng.normalArray(9));
        expect(resumed.fork('a').uint32(2)).toEqual(rng.fork('a').uint32(2));
      }),
      { numRuns: 30 },
    );
  });

  it('carries the counter into its high word', () => {
    const state: RngState = { algorithm: 'philox4x32-10', key: [1, 2], counter: 2 ** 34 - 4 };
    const words = Rng.fromState(state).uint32(8);
    const expected = new Uint32Array(8);
    philox4x32(0xffffffff, 0, 0, 0, 1, 2, expected, 0);
    philox4x32(0, 1, 0, 0, 1, 2, expected, 4);
    expect(words).toEqual(expected);
  });

  it('refuses what is not a state', () => {
    const good = new Rng(1).state();
    const bad: unknown[] = [
      null,
      undefined,
      5,
      'x',
      [],
      {},
      { ...good, algorithm: 'mt19937' },
      { ...good, algorithm: { toString: 1 } },
      { ...good, key: [1] },
      { ...good, key: [1, -1] },
      { ...good, key: [1, 2 ** 32] },
      { ...good, key: [1n, 2n] },
      { ...good, key: 'ab' },
      { ...good, counter: -1 },
      { ...good, counter: 0.5 },
      { ...good, counter: '3' },
      { ...good, counter: 1e300 },
      { ...good, counter: null },
    ];
    for (const state of bad) expect(() => Rng.fromState(state as RngState)).toThrow(FormatError);
    expect(() => Rng.fromState({ ...good, counter: -1 })).toThrow(/counter is -1; .*rng\.state\(\)/);
  });
});

describe('fork', () => {
  it('depends on the key and the name, not on what was drawn', () => {
    const rng = new Rng(11);
    const before = rng.fork('layer').uint32(5);
    rng.normalArray(1001);
    expect(rng.fork('layer').uint32(5)).toEqual(before);
    expect(rng.fork(3).uint32(5)).toEqual(rng.fork('3').uint32(5));
  });

  it('gives a different key for every name, path and parent', () => {
    const names = [
      '',
      'a',
      'b',
      'ab',
      'ba',
      'a\0',
      '\0',
      'abcd',
      'abcde',
      'abcdefgh',
      '\ud800',
      'é',
      ...Array(200).keys(),
    ];
    const keys = [new Rng(1), new Rng(2), new Rng(1).fork('a'), new Rng('a')].flatMap((rng) =>
      [rng, ...names.map((name) => rng.fork(name))].map((child) => child.state().key.join()),
    );
    // new Rng(1).fork('a') is listed twice: as a child and as a parent.
    expect(new Set(keys).size).toBe(keys.length - 1);
    expect(() => new Rng(1).fork(0.5)).toThrow(ConfigError);
  });

  it('gives streams that do not correlate with each other or with the parent', () => {
    const n = 20_000;
    const rng = new Rng(5);
    const streams = [rng, rng.fork(0), rng.fork(1), rng.fork(0).fork(0)].map((stream) => stream.normalArray(n));
    for (let i = 0; i < streams.length; i++) {
      for (let j = 0; j < i; j++) {
        const correlation = streams[i].reduce((sum, x, t) => sum + x * streams[j][t], 0) / n;
        expect(Math.abs(correlation) * Math.sqrt(n)).toBeLessThan(3.5);
      }
    }
  });
});

describe('distributions', () => {
  const n = 100_000;

  it('uint32: bytes pass chi-square', () => {
    const bytes = new Uint8Array(new Rng(2024).uint32(n).buffer);
    const counts = new Float64Array(256);
    for (const byte of bytes) counts[byte]++;
    // 255 degrees of freedom: mean 255, standard deviation 22.6.
    expect(Math.abs(chiSquare(counts, new Float64Array(256).fill(bytes.length / 256)) - 255)).toBeLessThan(3.5 * 22.6);
  });

  it('uniform: moments, bounds, 24-bit resolution, Kolmogorov-Smirnov', () => {
    const values = read(new Rng(1).uniform([n / 10, 10], { low: -3, high: 5 }));
    const { mean, std } = moments(values);
    expect(Math.abs(mean - 1)).toBeLessThan((3.5 * 8) / Math.sqrt(12 * n));
    expect(std).toBeCloseTo(8 / Math.sqrt(12), 1);
    expect(kolmogorov(values, (x) => (x + 3) / 8)).toBeLessThan(1.95);
    const unit = new Rng(1).uniformArray(n);
    expect(unit.every((u) => u >= 0 && u < 1 && Number.isInteger(u * 2 ** 24))).toBe(true);
    expect(unit.some((u) => (u * 2 ** 24) % 2 === 1)).toBe(true);
  });

  it('uniform: stays below `high` where float32 would round up to it', () => {
    for (const [low, high] of [
      [1, 1 + 2 ** -23],
      [1e8, 1e8 + 16],
      [-1e-45, 0],
      [-1 - 2 ** -23, -1],
      [0.1, 0.3],
    ]) {
      const values = read(new Rng(4).uniform([2000], { low, high }));
      expect(values.every((x) => x >= Math.fround(low) && x < Math.fround(high))).toBe(true);
    }
    expect(Array.from(read(new Rng(4).uniform([3], { low: 2, high: 2 })))).toEqual([2, 2, 2]);
  });

  it('normal: moments, tails, Kolmogorov-Smirnov', () => {
    const values = new Rng(3).normalArray(n);
    const { mean, std, skew, kurtosis } = moments(values);
    expect(Math.abs(mean) * Math.sqrt(n)).toBeLessThan(3.5);
    expect(Math.abs(std - 1) * Math.sqrt(2 * n)).toBeLessThan(3.5);
    expect(Math.abs(skew) * Math.sqrt(n / 6)).toBeLessThan(3.5);
    expect(Math.abs(kurtosis - 3) * Math.sqrt(n / 24)).toBeLessThan(3.5);
    expect(kolmogorov(values, normalCdf)).toBeLessThan(1.95);
    const beyond3 = values.filter((x) => Math.abs(x) > 3).length;
    expect(Math.abs(beyond3 - 270)).toBeLessThan(3.5 * Math.sqrt(270));
    const neighbours = values.reduce((sum, x, i) => sum + x * (values[i + 1] ?? 0), 0) / n;
    expect(Math.abs(neighbours) * Math.sqrt(n)).toBeLessThan(3.5);
  });

  it('normal: is mean + std z, rounded once', () => {
    const z = new Rng(8).normalArray(101);
    const x = read(new Rng(8).normal([101], { mean: -2, std: 0.5 }));
    x.forEach((value, i) => {
      expect(value).toBeCloseTo(-2 + 0.5 * z[i], 6);
    });
    expect(Array.from(read(new Rng(8).normal([2], { mean: 3, std: 0 })))).toEqual([3, 3]);
  });

  it('truncatedNormal: Kolmogorov-Smirnov for every proposal', () => {
    for (const [low, high] of [
      [-2, 2],
      [-0.5, 1],
      [-1, 6],
      [1, 1.5],
      [1, 4],
      [-4, -0.5],
      [4, Infinity],
      [-Infinity, 0],
    ]) {
      const mean = 0.5;
      const std = 2;
      const bounds = { low: mean + std * low, high: mean + std * high };
      const values = read(new Rng('trunc').truncatedNormal([20_000], { mean, std, ...bounds }));
      expect(values.every((x) => x >= bounds.low && x <= bounds.high)).toBe(true);
      const cdf = (z: number): number => (z === Infinity ? 1 : z === -Infinity ? 0 : normalCdf(z));
      const [from, to] = [cdf(low), cdf(high)];
      expect(kolmogorov(values, (x) => (cdf((x - mean) / std) - from) / (to - from))).toBeLessThan(1.95);
    }
  });

  it('truncatedNormal: ends, inside the bounds, for extreme ones', () => {
    const extremes = [-3e38, -1e30, -1e16, -1, -1e-45, 0, 1e-45, 0.1, 1, 1 + 2 ** -23, 1e10, 3e38];
    const value = fc.constantFrom(...extremes);
    fc.assert(
      fc.property(value, value, value, fc.constantFrom(1e-45, 1e-30, 1, 1e10, 3e38), (low, high, mean, std) => {
        fc.pre(Math.fround(low) < Math.fround(high));
        const values = read(new Rng(1).truncatedNormal([4], { mean, std, low, high }));
        expect(values.every((x) => x >= Math.fround(low) && x <= Math.fround(high))).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  it('bernoulli: rate and edges', () => {
    const ones = read(new Rng(6).bernoulli([n], 0.3)).reduce((sum, x) => sum + x, 0);
    expect(Math.abs(ones - 0.3 * n)).toBeLessThan(3.5 * Math.sqrt(0.21 * n));
    expect(read(new Rng(6).bernoulli([1000], 1)).every((x) => x === 1)).toBe(true);
    expect(read(new Rng(6).bernoulli([1000], 0)).every((x) => x === 0)).toBe(true);
  });

  it('integers: chi-square, bounds, full int32 range', () => {
    const counts = new Float64Array(7);
    for (const x of read(new Rng(9).integers([n], -3, 4))) counts[x + 3]++;
    expect(chiSquare(counts, new Float64Array(7).fill(n / 7))).toBeLessThan(22.5); // 6 degrees of freedom, p = 0.001
    const wide = read(new Rng(9).integers([n], -(2 ** 31), 2 ** 31));
    expect(Math.abs(wide.reduce((sum, x) => sum + x, 0) / n)).toBeLessThan((3.5 * 2 ** 32) / Math.sqrt(12 * n));
  });

  it('integers: no bias where 2^32 is not a multiple of the range', () => {
    // With `word % range` the lower half would come twice as often.
    const range = 3 * 2 ** 30;
    const rng = new Rng(10);
    let low = 0;
    for (let i = 0; i < 10_000; i++) if (rng.integer(0, range) < 2 ** 30) low++;
    expect(Math.abs(low - 10_000 / 3)).toBeLessThan(3.5 * Math.sqrt(10_000 * (2 / 9)));
  });

  it('permutation: all 24 orders of four items come equally often', () => {
    const rng = new Rng(12);
    const counts = new Map<string, number>();
    for (let i = 0; i < 24_000; i++) {
      const order = rng.permutation(4).join();
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    expect(chiSquare([...counts.values()], Array(24).fill(1000))).toBeLessThan(49.7); // 23 degrees of freedom, p = 0.001
    expect(Array.from(rng.permutation(100)).sort((a, b) => a - b)).toEqual([...Array(100).keys()]);
    expect(rng.permutation(0)).toHaveLength(0);
  });

  it('choice: with and without replacement, weighted and not', () => {
    const rng = new Rng(13);
    const weights = [1, 0, 3, 6];
    const counts = new Float64Array(4);
    for (const i of rng.choice(4, 20_000, { weights })) counts[i]++;
    expect(counts[1]).toBe(0);
    expect(chiSquare([counts[0], counts[2], counts[3]], [2000, 6000, 12_000])).toBeLessThan(13.8);

    const first = new Float64Array(4);
    const second = new Float64Array(4);
    for (let i = 0; i < 20_000; i++) {
      const [a, b, ...rest] = rng.choice(4, 2, { replace: false, weights });
      expect(rest).toHaveLength(0);
      first[a]++;
      second[b]++;
    }
    expect(chiSquare([first[0], first[2], first[3]], [2000, 6000, 12_000])).toBeLessThan(13.8);
    // P(second = j) = sum over i != j of w_i w_j / (1 - w_i), for w = 0.1, 0.3, 0.6.
    const p = [0.1 * (0.3 / 0.7 + 0.6 / 0.4), 0.3 * (0.1 / 0.9 + 0.6 / 0.4), 0.6 * (0.1 / 0.9 + 0.3 / 0.7)];
    expect(
      chiSquare(
        [second[0], second[2], second[3]],
        p.map((x) => 20_000 * x),
      ),
    ).toBeLessThan(13.8);

    expect(new Set(rng.choice(50, 20, { replace: false })).size).toBe(20);
    expect(rng.choice(3, 100).every((i) => i >= 0 && i < 3)).toBe(true);
    expect(rng.choice(0, 0)).toHaveLength(0);
  });
});

describe('tensors', () => {
  it('have the shape and dtype asked for, and nothing leaks', () => {
    const before = memory().numTensors;
    const rng = new Rng(1);
    const tensors: Tensor[] = [
      rng.uniform([2, 3]),
      rng.normal([]),
      rng.truncatedNormal([4]),
      rng.bernoulli([1, 1, 2], 0.5),
      rng.integers([0, 3], 0, 9),
    ];
    expect(tensors.map(({ shape, dtype }) => [shape, dtype])).toEqual([
      [[2, 3], 'float32'],
      [[], 'float32'],
      [[4], 'float32'],
      [[1, 1, 2], 'float32'],
      [[0, 3], 'int32'],
    ]);
    for (const tensor of tensors) tensor.dispose();
    expect(memory().numTensors).toBe(before);
  });

  it('refuses impossible shapes and options by name', () => {
    const rng = new Rng(1);
    for (const shape of [[-1], [0.5], [2 ** 20, 2 ** 20], [Number.NaN]]) {
      expect(() => rng.normal(shape)).toThrow(ShapeError);
    }
    expect(() => rng.uniform([1], { low: 2, high: 1 })).toThrow(/rng\.uniform: low is 2; it may be at most high, 1/);
    expect(() => rng.uniform([1], { high: Infinity })).toThrow(ConfigError);
    expect(() => rng.normal([1], { std: -1 })).toThrow(/std is -1/);
    expect(() => rng.normal([1], { mean: Number.NaN })).toThrow(ConfigError);
    expect(() => rng.truncatedNormal([1], { std: 0 })).toThrow(ConfigError);
    expect(() => rng.truncatedNormal([1], { low: 2, high: 2 })).toThrow(ConfigError);
    expect(() => rng.truncatedNormal([1], { low: Number.NaN })).toThrow(ConfigError);
    expect(() => rng.bernoulli([1], 1.5)).toThrow(/p is 1\.5/);
    expect(() => rng.integers([1], 3, 3)).toThrow(ConfigError);
    expect(() => rng.integers([1], 0, 2 ** 32)).toThrow(/int32/);
    expect(() => rng.integer(0, 2 ** 33)).toThrow(ConfigError);
    expect(() => rng.permutation(-1)).toThrow(ConfigError);
    expect(() => rng.choice(3, 4, { replace: false })).toThrow(/k is 4; it may be at most 3/);
    expect(() => rng.choice(0, 1)).toThrow(ConfigError);
    expect(() => rng.choice(2, 1, { weights: [1] })).toThrow(/weights has length 1/);
    expect(() => rng.choice(2, 1, { weights: [1, -1] })).toThrow(/weights\[1\] is -1/);
    expect(() => rng.choice(2, 1, { weights: [0, 0] })).toThrow(ConfigError);
    expect(() => rng.choice(2, 2, { weights: [1, 0], replace: false })).toThrow(ConfigError);
    expect(() => rng.choice(2, 1, { weights: [1, Infinity] })).toThrow(ConfigError);
  });
});
