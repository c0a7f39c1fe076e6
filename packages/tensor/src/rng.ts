import type { Rank, ShapeMap, Tensor } from '@tensorflow/tfjs-core';
import { ConfigError, FormatError, ShapeError } from './errors.ts';
import { currentTrace, hostTensor } from './jit.ts';
import { philox4x32 } from './philox.ts';
import { cosTurn, logUniform } from './portable-math.ts';
import { quote } from './quote.ts';
import { forkKey, seedKey } from './rng-key.ts';
import { truncatedStandardNormal } from './truncated-normal.ts';

const ALGORITHM = 'philox4x32-10';
const TWO_32 = 0x100000000;
const MAX_COUNTER = 0x10000000000000;

/** Words computed at a time; a multiple of Philox's four. Part of no contract: any size gives the same numbers. */
const CHUNK = 64;

/** Where a generator stands: plain JSON, which `Rng.fromState` turns back into a generator that continues bit-exactly. */
export type RngState = {
  algorithm: 'philox4x32-10';
  /** The 64-bit key as two unsigned words, low one first. */
  key: [number, number];
  /** How many 32-bit words have been drawn. */
  counter: number;
};

/**
 * A seeded random generator: the word at place `i` of its stream is a pure function of its 64-bit key and `i`
 * (Philox4x32-10). `fork` gives independent streams by name.
 *
 * The same seed and the same calls give bit-identical numbers, normal ones included, on every backend, engine and
 * platform: all arithmetic is made of operations that IEEE 754 rounds exactly (+, -, *, /, square root), in float64,
 * rounded once to the result's type. Not for cryptography.
 *
 * Tensors returned belong to the caller.
 *
 * Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
 */
export class Rng {
  readonly #key: [number, number];
  readonly #words: Uint32Array = new Uint32Array(CHUNK);
  readonly #next: () => number = () => this.#word();
  #chunk = -1;
  #offset: number = CHUNK;
  /** The trace in which the generator was made: its numbers are then the same in every run of the graph. */
  readonly #born: object | undefined = currentTrace();

  /**
   * @param seed A whole number in `[0, 2^53)`, a bigint in `[0, 2^64)` (`7` and `7n` are the same seed), or any string.
   * @throws ConfigError for any other seed.
   */
  constructor(seed: number | bigint | string) {
    this.#key = seedKey(seed);
  }

  /** The generator that `state()` described. Throws FormatError where `state` is not such a description. */
  static fromState(state: RngState): Rng {
    const { key, counter } = checkState(state);
    const rng = Rng.#fromKey(key);
    rng.#seek(counter);
    return rng;
  }

  static #fromKey([low, high]: [number, number]): Rng {
    return new Rng(BigInt(low) | (BigInt(high) << 32n));
  }

  /** The key and how far the stream has been drawn, as a plain JSON object. */
  state(): RngState {
    return { algorithm: ALGORITHM, key: [...this.#key], counter: this.#chunk * CHUNK + this.#offset };
  }

  /**
   * Continues from where `state` was taken of this generator.
   * @throws FormatError where `state` is no such description, ConfigError where it is another generator's.
   */
  restore(state: RngState): void {
    this.#checkEager('restore');
    const { key, counter } = checkState(state);
    if (key[0] !== this.#key[0] || key[1] !== this.#key[1]) {
      throw new ConfigError('rng.restore: the state is that of another generator; Rng.fromState makes a new one of it');
    }
    this.#seek(counter);
  }

  #seek(counter: number): void {
    this.#chunk = Math.floor(counter / CHUNK) - 1;
    this.#refill();
    this.#offset = counter % CHUNK;
  }

  /**
   * An independent stream named `name`, at its start. It depends on this generator's key and on the name only, not on
   * how much has been drawn: the order in which parts of a model are built does not change their numbers. The same
   * name gives the same stream again; a number names the same stream as its decimal digits.
   */
  fork(name: string | number): Rng {
    if (typeof name !== 'string' && !Number.isSafeInteger(name)) {
      throw new ConfigError(`rng.fork: name is ${quote(name)}; it may be a string or a whole number`);
    }
    return Rng.#fromKey(forkKey(this.#key, String(name)));
  }

  /** `n` uniform 32-bit words. */
  uint32(n: number): Uint32Array {
    this.#checkEager('uint32');
    const out = new Uint32Array(checkCount('uint32', 'n', n));
    for (let i = 0; i < n; i++) out[i] = this.#word();
    return out;
  }

  /** float32 numbers `low + (high - low) u`, `u` uniform on the multiples of 2^-24 in [0, 1): always `low <= x < high`. */
  uniform<R extends Rank = Rank>(shape: ShapeMap[R], options: { low?: number; high?: number } = {}): Tensor<R> {
    const low = Math.fround(checkFinite('uniform', 'low', options.low ?? 0));
    const high = Math.fround(checkFinite('uniform', 'high', options.high ?? 1));
    if (low > high) throw new ConfigError(`rng.uniform: low is ${low}; it may be at most high, ${high}`);
    const last = Math.max(low, floatBelow(high));
    return this.#draw(shape, 'float32', (out) => {
      for (let i = 0; i < out.length; i++) {
        const x = Math.fround(low + (high - low) * this.#unit());
        out[i] = x < high ? x : last;
      }
    });
  }

  /** float32 numbers from the normal distribution: `mean + std z`, default mean 0, standard deviation 1. */
  normal<R extends Rank = Rank>(shape: ShapeMap[R], options: { mean?: number; std?: number } = {}): Tensor<R> {
    const mean = checkFinite('normal', 'mean', options.mean ?? 0);
    const std = checkFinite('normal', 'std', options.std ?? 1);
    if (std < 0) throw new ConfigError(`rng.normal: std is ${std}; it may be a finite number >= 0`);
    return this.#draw(shape, 'float32', (out) => this.#fillNormal(out, mean, std));
  }

  /**
   * float32 numbers from the normal distribution with `mean` and `std`, restricted to `[low, high]`. As in PyTorch's
   * `trunc_normal_` the bounds are absolute, not in standard deviations; defaults: mean 0, std 1, low -2, high 2.
   * `std` is that of the unrestricted distribution. Bounds may be infinite.
   */
  truncatedNormal<R extends Rank = Rank>(
    shape: ShapeMap[R],
    options: { mean?: number; std?: number; low?: number; high?: number } = {},
  ): Tensor<R> {
    const mean = checkFinite('truncatedNormal', 'mean', options.mean ?? 0);
    const std = Math.fround(checkFinite('truncatedNormal', 'std', options.std ?? 1));
    if (std <= 0) throw new ConfigError(`rng.truncatedNormal: std is ${std}; it may be a finite float32 number > 0`);
    const low = Math.fround(options.low ?? -2);
    const high = Math.fround(options.high ?? 2);
    if (!(low < high))
      throw new ConfigError(`rng.truncatedNormal: low is ${low}; it may be anything below high, ${high}`);
    const from = (low - mean) / std;
    const to = (high - mean) / std;
    return this.#draw(shape, 'float32', (out) => {
      for (let i = 0; i < out.length; i++) {
        const x = mean + std * truncatedStandardNormal(from, to, this.#next);
        out[i] = Math.min(Math.max(x, low), high);
      }
    });
  }

  /** float32 ones with probability `p` in [0, 1] (to a multiple of 2^-32), else zeros. */
  bernoulli<R extends Rank = Rank>(shape: ShapeMap[R], p: number): Tensor<R> {
    if (!(p >= 0 && p <= 1)) throw new ConfigError(`rng.bernoulli: p is ${p}; it may be a probability in [0, 1]`);
    const threshold = p * TWO_32;
    return this.#draw(shape, 'float32', (out) => {
      for (let i = 0; i < out.length; i++) out[i] = this.#word() < threshold ? 1 : 0;
    });
  }

  /** int32 numbers uniform on `low, low + 1, ..., high - 1`, without bias. */
  integers<R extends Rank = Rank>(shape: ShapeMap[R], low: number, high: number): Tensor<R> {
    const range = checkRange('integers', low, high);
    if (low < -0x80000000 || high > 0x80000000) {
      throw new ConfigError(`rng.integers: [low, high) is [${low}, ${high}); it may reach from -2^31 to 2^31 (int32)`);
    }
    return this.#draw(shape, 'int32', (out) => {
      for (let i = 0; i < out.length; i++) out[i] = low + this.#below(range);
    });
  }

  /** `n` float32 numbers uniform on the multiples of 2^-24 in [0, 1). */
  uniformArray(n: number): Float32Array {
    this.#checkEager('uniformArray');
    const out = new Float32Array(checkCount('uniformArray', 'n', n));
    for (let i = 0; i < n; i++) out[i] = this.#unit();
    return out;
  }

  /** `n` float32 numbers from the standard normal distribution. */
  normalArray(n: number): Float32Array {
    this.#checkEager('normalArray');
    const out = new Float32Array(checkCount('normalArray', 'n', n));
    this.#fillNormal(out, 0, 1);
    return out;
  }

  /** One whole number uniform on `low, low + 1, ..., high - 1` (at most 2^32 of them), without bias. */
  integer(low: number, high: number): number {
    this.#checkEager('integer');
    return low + this.#below(checkRange('integer', low, high));
  }

  /** The numbers `0 ... n - 1` in a uniformly random order (Fisher-Yates). */
  permutation(n: number): Int32Array {
    this.#checkEager('permutation');
    return this.#sample(checkCount('permutation', 'n', n), n);
  }

  /**
   * `k` of the numbers `0 ... n - 1`, in random order, as NumPy's `Generator.choice`.
   *
   * @param options.replace Whether a number may come more than once; default true.
   * @param options.weights One non-negative number for each of the `n`, in proportion to which they are drawn; default
   *   all equal. Without replacement, drawn one after another in proportion among those left (Efraimidis and Spirakis,
   *   "Weighted random sampling with a reservoir", 2006).
   * @throws ConfigError where fewer than `k` can be drawn.
   */
  choice(n: number, k: number, options: { replace?: boolean; weights?: ArrayLike<number> } = {}): Int32Array {
    const { replace = true, weights } = options;
    this.#checkEager('choice');
    checkCount('choice', 'n', n);
    checkCount('choice', 'k', k);
    const available = weights ? checkWeights(weights, n) : n;
    if (k > available && !(replace && available > 0)) {
      throw new ConfigError(`rng.choice: k is ${k}; it may be at most ${available}, as many as there are to draw from`);
    }
    if (weights) return replace ? this.#weighted(weights, k) : this.#weightedWithoutReplacement(weights, k);
    return replace ? new Int32Array(k).map(() => this.#below(n)) : this.#sample(n, k);
  }

  /** Every random tensor is made here. */
  #draw<R extends Rank, D extends keyof DrawTypes>(
    shape: ShapeMap[R],
    dtype: D,
    fill: (out: DrawTypes[D]) => void,
  ): Tensor<R> {
    const size = sizeOf(shape);
    const make = (): DrawTypes[D] => {
      const out = (dtype === 'float32' ? new Float32Array(size) : new Int32Array(size)) as DrawTypes[D];
      fill(out);
      return out;
    };
    return hostTensor(shape, dtype, make, this.#born !== currentTrace()) as Tensor<R>;
  }

  /** Numbers that a traced function would draw once and never again are refused. */
  #checkEager(method: string): void {
    if (currentTrace() === this.#born) return;
    throw new ConfigError(
      `rng.${method} would happen only once in a function under jit, when it is traced; draw a tensor, or call it ` +
        'outside and pass the result as an argument.',
    );
  }

  #word(): number {
    if (this.#offset === CHUNK) this.#refill();
    return this.#words[this.#offset++];
  }

  #refill(): void {
    const block = (++this.#chunk * CHUNK) / 4;
    const high = Math.floor(block / TWO_32);
    const [k0, k1] = this.#key;
    for (let i = 0; i < CHUNK; i += 4) philox4x32(block + i / 4, high, 0, 0, k0, k1, this.#words, i);
    this.#offset = 0;
  }

  #unit(): number {
    return (this.#word() >>> 8) / 0x1000000;
  }

  /** Box-Muller: two words give two numbers; the second of the last pair is dropped where the length is odd. */
  #fillNormal(out: Float32Array, mean: number, std: number): void {
    for (let i = 0; i < out.length; i += 2) {
      const radius = std * Math.sqrt(-2 * logUniform(this.#word()));
      const angle = this.#word();
      out[i] = mean + radius * cosTurn(angle);
      if (i + 1 < out.length) out[i + 1] = mean + radius * cosTurn(angle - 0x40000000);
    }
  }

  /** Uniform on `0 ... range - 1`: words beyond the last whole run of `range` are drawn again. */
  #below(range: number): number {
    for (;;) {
      const word = this.#word();
      const remainder = word % range;
      if (word - remainder <= TWO_32 - range) return remainder;
    }
  }

  /** The first `k` places of a Fisher-Yates shuffle of `0 ... n - 1`. */
  #sample(n: number, k: number): Int32Array {
    const items = new Int32Array(n).map((_, i) => i);
    for (let i = 0; i < k; i++) {
      const j = i + this.#below(n - i);
      const item = items[i];
      items[i] = items[j];
      items[j] = item;
    }
    return k === n ? items : items.slice(0, k);
  }

  #weighted(weights: ArrayLike<number>, k: number): Int32Array {
    let total = 0;
    const cumulative = Float64Array.from(weights, (weight) => (total += weight));
    return new Int32Array(k).map(() => {
      const high = this.#word() >>> 5;
      const target = ((high * 0x4000000 + (this.#word() >>> 6)) / 2 ** 53) * total;
      return firstAbove(cumulative, target);
    });
  }

  /** Each item waits an exponential time with its weight as the rate; the first `k` to arrive are the sample. */
  #weightedWithoutReplacement(weights: ArrayLike<number>, k: number): Int32Array {
    const arrival = Float64Array.from(weights, (weight) => -logUniform(this.#word()) / weight);
    const order = new Int32Array(arrival.length).map((_, i) => i);
    return order.sort((a, b) => (arrival[a] < arrival[b] ? -1 : arrival[a] > arrival[b] ? 1 : a - b)).slice(0, k);
  }
}

interface DrawTypes {
  float32: Float32Array;
  int32: Int32Array;
}

/** The largest float32 below the float32 `x`. */
function floatBelow(x: number): number {
  const float = new Float32Array([x]);
  const bits = new Int32Array(float.buffer);
  bits[0] = x === 0 ? -0x7fffffff : bits[0] + (x > 0 ? -1 : 1);
  return float[0];
}

/** The first place whose value is above `target`, in an ascending array. */
function firstAbove(ascending: Float64Array, target: number): number {
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle] > target) high = middle;
    else low = middle + 1;
  }
  return low;
}

function sizeOf(shape: readonly number[]): number {
  const size = shape.reduce((product, dim) => (Number.isInteger(dim) && dim >= 0 ? product * dim : Number.NaN), 1);
  if (!(size <= 0x7fffffff)) {
    throw new ShapeError(`rng: shape is [${shape}]; it may hold whole numbers >= 0 with a product below 2^31`);
  }
  return size;
}

function checkCount(method: string, option: string, n: number): number {
  if (Number.isInteger(n) && n >= 0 && n <= 0x7fffffff) return n;
  throw new ConfigError(`rng.${method}: ${option} is ${n}; it may be a whole number in [0, 2^31)`);
}

function checkFinite(method: string, option: string, x: number): number {
  if (Number.isFinite(Math.fround(x))) return x;
  throw new ConfigError(`rng.${method}: ${option} is ${x}; it may be a finite float32 number`);
}

function checkRange(method: string, low: number, high: number): number {
  const range = high - low;
  if (Number.isSafeInteger(low) && Number.isSafeInteger(high) && range > 0 && range <= TWO_32) return range;
  throw new ConfigError(
    `rng.${method}: [low, high) is [${low}, ${high}); both may be whole numbers, high above low by at most 2^32`,
  );
}

/** How many of the weights are above zero. */
function checkWeights(weights: ArrayLike<number>, n: number): number {
  if (weights.length !== n) {
    throw new ConfigError(`rng.choice: weights has length ${weights.length}; it may hold n = ${n} numbers`);
  }
  let positive = 0;
  let total = 0;
  for (let i = 0; i < n; i++) {
    if (weights[i] > 0) positive++;
    else if (weights[i] !== 0) {
      throw new ConfigError(`rng.choice: weights[${i}] is ${weights[i]}; it may be a finite number >= 0`);
    }
    total += weights[i];
  }
  if (total === Infinity) throw new ConfigError('rng.choice: weights add up to Infinity; they may have a finite sum');
  return positive;
}

function checkState(state: unknown): RngState {
  const { algorithm, key, counter } = (state ?? {}) as Partial<Record<keyof RngState, unknown>>;
  const isWord = (x: unknown): boolean => Number.isInteger(x) && (x as number) >= 0 && (x as number) < TWO_32;
  const fail = (field: string, value: unknown, allowed: string): never => {
    throw new FormatError(
      `Rng.fromState: ${field} is ${quote(value)}; it may be ${allowed}. Pass what rng.state() returned.`,
    );
  };
  if (algorithm !== ALGORITHM) fail('algorithm', algorithm, `'${ALGORITHM}'`);
  if (!Array.isArray(key) || key.length !== 2 || !key.every(isWord)) fail('key', key, 'two whole numbers in [0, 2^32)');
  if (!Number.isInteger(counter) || (counter as number) < 0 || (counter as number) > MAX_COUNTER) {
    fail('counter', counter, `a whole number in [0, 2^52]`);
  }
  return state as RngState;
}
