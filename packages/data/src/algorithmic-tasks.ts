import {
  ConfigError,
  checkInteger,
  mean,
  quote,
  type Rng,
  ShapeError,
  slice,
  square,
  sub,
  type Tensor,
  tensor3d,
  tidy,
} from '@ashlar/tensor';

export type AlgorithmicTask = 'sum' | 'min' | 'max' | 'median' | 'sort' | 'maxsub' | 'minsum';

/** The answer to `x`; for `minsum` to the pairs `x_i`, `x_{i+n}`. `sort`, whose answer is a list, stands beside. */
const ANSWERS: Readonly<Record<Exclude<AlgorithmicTask, 'sort'>, (x: readonly number[]) => number>> = {
  sum: (x) => x.reduce((sum, value) => sum + value, 0),
  min: (x) => Math.min(...x),
  max: (x) => Math.max(...x),
  median: (x) => {
    const sorted = ascending(x);
    return (sorted[(x.length - 1) >> 1] + sorted[x.length >> 1]) / 2;
  },
  maxsub: (x) => {
    let [best, ending] = [Number.NEGATIVE_INFINITY, 0];
    for (const value of x) {
      ending = Math.max(ending, 0) + value;
      best = Math.max(best, ending);
    }
    return best;
  },
  minsum: (sums) => Math.min(...sums),
};

const TASKS = [...Object.keys(ANSWERS), 'sort'] as AlgorithmicTask[];

const ascending = (x: readonly number[]): number[] => [...x].sort((a, b) => a - b);

/**
 * What a task answers, one number for each of `x`:
 * - `sum`, `min`, `max`, `median` (of an even count the middle of the two middle values);
 * - `maxsub`: the largest sum of a block of neighbours, at least one;
 * - `minsum`: of `2 n` numbers the least `x_i + x_{i+n}`;
 * - `sort`: the numbers in rising order.
 *
 * All but `sort` repeat the answer; `cumulative`, place `i` has the answer to `x_1 … x_i` (`minsum`: to the first `i` pairs,
 * in both halves).
 * @throws ConfigError for a task that is none of these, an odd count for `minsum`, or `sort` with `cumulative`.
 */
export function algorithmicTargets(
  task: AlgorithmicTask,
  x: readonly number[],
  options: { cumulative?: boolean } = {},
): number[] {
  const { cumulative = false } = options;
  checkTask(task, cumulative);
  if (task === 'sort') return ascending(x);
  const n = x.length / 2;
  if (task === 'minsum' && !Number.isInteger(n)) {
    throw new ConfigError(`algorithmicTargets: minsum adds pairs; ${x.length} numbers have none for each.`);
  }
  const items = task === 'minsum' ? x.slice(0, n).map((value, i) => value + x[n + i]) : x;
  const answers = items.map((_, i) => ANSWERS[task](cumulative ? items.slice(0, i + 1) : items));
  return task === 'minsum' ? [...answers, ...answers] : answers;
}

/** How samples of numbers are drawn. */
export interface AlgorithmicSampling {
  /** Default 1. */
  readonly samples?: number;
  /** Numbers lie between `low` and `high`. */
  readonly low: number;
  readonly high: number;
  /** Scratch nodes after the others: value 0, target 0. Default 0. */
  readonly extraNodes?: number;
  /** Samples whose own range lies inside this one are drawn again: tests outside of the range of training. */
  readonly reject?: { readonly low: number; readonly high: number };
}

export interface AlgorithmicTaskOptions extends AlgorithmicSampling {
  readonly task: AlgorithmicTask;
  /** Numbers of an input; of pairs for `minsum`. */
  readonly n: number;
  /** See `algorithmicTargets`. Default false. */
  readonly cumulative?: boolean;
}

/**
 * Inputs and targets of a task: each sample draws its own range `[l, u]`, two uniform numbers of `[low, high]` in order,
 * then its numbers uniformly of `[l, u]`.
 *
 * Source: Back de Luca et al., "Positional Attention" (ICML 2025, arXiv 2410.01686).
 * @returns `x` and `y`, `[samples, n + extraNodes, 1]` (`2 n + extraNodes` for `minsum`). The caller disposes of them.
 * @throws ConfigError for an option out of range, or where `reject` leaves fewer than one sample in 10,000.
 */
export function algorithmicTask(options: AlgorithmicTaskOptions, rng: Rng): { x: Tensor; y: Tensor } {
  const { task, cumulative = false } = options;
  checkTask(task, cumulative);
  const { samples, extraNodes, ...checked } = checkSampling('algorithmicTask', options);
  const n = checked.n * (task === 'minsum' ? 2 : 1);
  const width = n + extraNodes;
  const [xs, ys] = [new Float32Array(samples * width), new Float32Array(samples * width)];
  for (let i = 0; i < samples; i++) {
    const [l, u] = sampleRange(options, rng);
    // Rounded first, so that the targets are those of the numbers that the network sees.
    const x = Array.from(rng.uniformArray(n), (unit) => Math.fround(l + (u - l) * unit));
    xs.set(x, i * width);
    ys.set(algorithmicTargets(task, x, { cumulative }), i * width);
  }
  const shape: [number, number, number] = [samples, width, 1];
  return { x: tensor3d(xs, shape), y: tensor3d(ys, shape) };
}

/**
 * Mean squared error over all but the last `extraNodes` nodes of `[batch, nodes, dim]`.
 * @throws ShapeError unless both have one shape with more nodes than that.
 */
export function maskedMse(out: Tensor, y: Tensor, extraNodes: number): Tensor {
  const nodes = (out.shape[1] ?? 0) - extraNodes;
  if (out.rank !== 3 || String(out.shape) !== String(y.shape) || !Number.isInteger(extraNodes) || !(nodes > 0)) {
    throw new ShapeError(
      `maskedMse takes two tensors [batch, nodes, dim] of more than ${quote(extraNodes)} nodes, not [${out.shape}] and ` +
        `[${y.shape}]`,
    );
  }
  return tidy(() => mean(square(sub(slice(out, [0, 0, 0], [-1, nodes, -1]), slice(y, [0, 0, 0], [-1, nodes, -1])))));
}

/** Two numbers between `low` and `high` in order, not both inside `reject`. */
export function sampleRange({ low, high, reject }: AlgorithmicSampling, rng: Rng): [number, number] {
  for (;;) {
    const [l, u] = ascending(Array.from(rng.uniformArray(2), (unit) => low + (high - low) * unit));
    if (reject === undefined || l < reject.low || u > reject.high) return [l, u];
  }
}

/** The sizes, with their defaults. @throws ConfigError for options out of range. */
export function checkSampling(
  where: string,
  options: AlgorithmicSampling & { readonly n: number },
  leastN = 1,
): { n: number; samples: number; extraNodes: number } {
  const { low, high, reject, extraNodes = 0 } = options;
  const n = checkInteger(where, 'n', options.n, leastN);
  const samples = checkInteger(where, 'samples', options.samples ?? 1);
  checkInteger(where, 'extraNodes', extraNodes, 0);
  checkRange(`${where}: low and high`, low, high);
  if (reject !== undefined) {
    checkRange(`${where}: reject`, reject.low, reject.high);
    const inside = Math.max(0, Math.min(reject.high, high) - Math.max(reject.low, low)) / (high - low);
    if (1 - inside ** 2 < 1e-4) {
      throw new ConfigError(
        `${where}: reject is [${reject.low}, ${reject.high}], which leaves next to nothing of [${low}, ${high}]; ` +
          'widen low and high beyond it',
      );
    }
  }
  return { n, samples, extraNodes };
}

function checkTask(task: AlgorithmicTask, cumulative: boolean): void {
  if (!TASKS.includes(task)) {
    throw new ConfigError(`algorithmicTask: task is ${quote(task)}; it may be ${TASKS.map(quote).join(', ')}`);
  }
  if (task === 'sort' && cumulative) throw new ConfigError("algorithmicTask: task 'sort' has no cumulative form");
}

function checkRange(what: string, low: number, high: number): void {
  if (Number.isFinite(low) && Number.isFinite(high) && low < high) return;
  throw new ConfigError(`${what} are ${quote(low)} and ${quote(high)}; they may be finite numbers, low below high`);
}
