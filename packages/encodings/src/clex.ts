import {
  add,
  Buffer,
  ConfigError,
  checkChoice,
  checkInteger,
  checkNumber,
  cos,
  currentTrace,
  exp,
  log,
  Module,
  matMul,
  mul,
  noGrad,
  odeSolve,
  oncePerPass,
  Parameter,
  type PositionEncoding,
  type Rng,
  reshape,
  rotaryEmbedding,
  ShapeError,
  silu,
  sin,
  slice,
  type Tensor,
  tanh,
  tensor1d,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { checkPositions, lengthOf } from './positions.ts';
import type { RotaryLayout } from './rope.ts';
import { ropeFrequencies } from './rope-scaling.ts';

export interface ClexOptions {
  /** Channels of a head, an even number of at least 4. */
  readonly headDim: number;
  /** The trained length `L` (`max_position_embeddings`). */
  readonly originalLength: number;
  /** Default 10000. */
  readonly base?: number;
  /** The largest scale `T`; sequences beyond `T L` get the frequencies of `T L`. Default 16. */
  readonly maxFactor?: number;
  /** The hidden width over `headDim` (`param_factor`). Default 1. */
  readonly hiddenFactor?: number;
  /** Default `'silu'`. */
  readonly activation?: 'silu' | 'tanh';
  /** Of the solver (`time_dt`). Default 0.01; 0.1 costs a tenth. */
  readonly stepSize?: number;
  /** The base of the time embedding: 10000 (default) in released checkpoints whatever their `base`; `base` for new ones. */
  readonly ntkBase?: number;
  /** Whether queries are multiplied by `ln(keys) / ln(L)`. Default false. */
  readonly logScale?: boolean;
  /** Default `'half'`. */
  readonly layout?: RotaryLayout;
  readonly rng: Rng;
}

/**
 * CLEX: rotary frequencies as a learned continuous function of the scale `t = length / L`. With `z = ln frequencies`,
 * `ntk_i(t) = ntkBase^(-2i/d) (2t - 1)^(-2i/(d-2))` and plain RoPE at `t = 1`,
 *
 *     dz/dt = act((z + ln ntk(t)) up) down + d ln ntk(t)/dt
 *
 * `down` starts at 0, which is NTK-aware scaling with `2t - 1`. All layers share it. A sequence of `n` tokens has
 * `t = min(T, ceil(n / L))`; to train, set `factor` to a drawn whole number and give the model `trainingPositions` for it.
 *
 * In eval mode frequencies are computed once for the weights at hand, and no gradient reaches `up` and `down`; in training
 * the equation is solved once in a step, by `lossAndGrads`. A model that decodes token by token beyond `L` has computed
 * earlier tokens at smaller scales (and with `logScale` at other sharpness) than a pass of the whole sequence does.
 *
 * Source: Chen et al., "CLEX: Continuous Length Extrapolation for Large Language Models" (ICLR 2024, arXiv 2310.16450).
 */
export class Clex extends Module<[readonly number[]]> implements PositionEncoding {
  /** `[headDim / 2, hiddenFactor headDim]`. */
  readonly up: Parameter;
  /** `[hiddenFactor headDim, headDim / 2]`. */
  readonly down: Parameter;
  /** The frequencies of all scales for the weights last seen in eval mode, `[maxFactor, headDim / 2]`. */
  readonly known: Buffer;
  readonly headDim: number;
  readonly originalLength: number;
  readonly base: number;
  readonly maxFactor: number;
  readonly activation: 'silu' | 'tanh';
  readonly stepSize: number;
  readonly ntkBase: number;
  readonly logScale: boolean;
  readonly layout: RotaryLayout;
  #factor: number | undefined;
  #known: { readonly up: Tensor; readonly down: Tensor } | undefined;

  /** @throws ConfigError for an option out of range, ShapeError if the channels cannot be paired. */
  constructor(options: ClexOptions) {
    super();
    const { headDim, originalLength, base = 10000, maxFactor = 16, hiddenFactor = 1, rng } = options;
    const { activation = 'silu', stepSize = 0.01, ntkBase = 10000, logScale = false, layout = 'half' } = options;
    checkInteger('Clex', 'headDim', headDim, 4);
    checkInteger('Clex', 'originalLength', originalLength, logScale ? 2 : 1);
    checkInteger('Clex', 'maxFactor', maxFactor);
    checkInteger('Clex', 'hiddenFactor', hiddenFactor);
    checkNumber('Clex: base', base, { above: 1 });
    checkNumber('Clex: ntkBase', ntkBase, { above: 1 });
    checkNumber('Clex: stepSize', stepSize, { above: 0 });
    checkChoice('Clex', 'activation', activation, ['silu', 'tanh']);
    checkChoice('Clex', 'layout', layout, ['half', 'interleaved']);
    if (headDim % 2 !== 0) throw new ShapeError(`Clex: headDim is ${headDim}; channels come in pairs.`);
    const hidden = hiddenFactor * headDim;
    const high = 1 / Math.sqrt(hidden);
    const shape: [number, number] = [headDim / 2, hidden];
    this.up = new Parameter({ shape, init: () => rng.uniform(shape, { low: -high, high }) });
    const back: [number, number] = [hidden, headDim / 2];
    this.down = new Parameter({ shape: back, init: () => zeros(back) });
    const scales: [number, number] = [maxFactor, headDim / 2];
    this.known = new Buffer({ shape: scales, init: () => zeros(scales) }, { persistent: false });
    this.headDim = headDim;
    this.originalLength = originalLength;
    this.base = base;
    this.maxFactor = maxFactor;
    this.activation = activation;
    this.stepSize = stepSize;
    this.ntkBase = ntkBase;
    this.logScale = logScale;
    this.layout = layout;
  }

  /** The scale that tokens are rotated at; undefined (default): that of the length. Set it in training. */
  get factor(): number | undefined {
    return this.#factor;
  }

  /** @throws ConfigError unless it is a whole number from 1 to `maxFactor`. */
  set factor(factor: number | undefined) {
    if (factor !== undefined) this.#checkFactor(factor);
    this.#factor = factor;
  }

  override signature(): string {
    return `${super.signature()} ${this.#factor ?? ''}`;
  }

  /** See `frequencies`. */
  forward(times: readonly number[]): Tensor {
    return this.frequencies(times);
  }

  /** `dz/dt` at scale `t`, from `z`, `[headDim / 2]`, to the same. */
  derivative(t: number, logFrequencies: Tensor): Tensor {
    const pairs = this.headDim / 2;
    return tidy(() => {
      const { value, slope } = ntkPrior(t, this.headDim, this.ntkBase);
      const hidden = matMul(reshape(add(logFrequencies, tensor1d(value)), [1, pairs]), this.up.value);
      const acted = this.activation === 'silu' ? silu(hidden) : tanh(hidden);
      return add(reshape(matMul(acted, this.down.value), [pairs]), tensor1d(slope));
    });
  }

  /**
   * Frequencies at scales `times`, which begin with 1 and rise; differentiable in `up` and `down`.
   * @returns `[times, headDim / 2]`.
   */
  frequencies(times: readonly number[]): Tensor {
    if (times[0] !== 1) throw new ConfigError(`Clex: times are [${times}]; they must begin with 1.`);
    return tidy(() => {
      const start = log(tensor1d(this.#plain()));
      return exp(odeSolve((t, z) => this.derivative(t, z), start, times, { stepSize: this.stepSize }));
    });
  }

  /** The scale for a sequence of `length` tokens: `ceil(length / L)`, at most `maxFactor`. */
  factorFor(length: number): number {
    return Math.max(1, Math.min(this.maxFactor, Math.ceil(length / this.originalLength)));
  }

  /** Frequencies for a sequence of `length` tokens, `[headDim / 2]`. */
  frequenciesForLength(length: number): Tensor {
    return this.#frequenciesAt(this.factorFor(length));
  }

  /**
   * Rising positions to train with at scale `factor`: the first, the last and a random subset between, of the
   * `length factor` positions; divided by `length / L` where sequences are longer than `L`.
   * @returns `[length]`, float32.
   */
  trainingPositions(length: number, factor: number, rng: Rng): Tensor {
    checkInteger('Clex', 'length', length, 2);
    this.#checkFactor(factor);
    const drawn = rng.choice(length * factor - 2, length - 2, { replace: false }).sort();
    return tensor1d(spreadPositions(drawn, length, factor, this.originalLength));
  }

  /** `[batch, heads, q, headDim]` and `[batch, kvHeads, k, headDim]`, both rotated at the scale of the longest position. */
  rotate(q: Tensor, k: Tensor, qPositions: Tensor, kPositions: Tensor): [Tensor, Tensor] {
    const factor = this.#factor ?? this.factorFor(lengthOf(kPositions));
    return tidy(() => {
      const frequencies = this.#frequenciesAt(factor);
      const [queries, keys] = [this.#turn(q, qPositions, frequencies), this.#turn(k, kPositions, frequencies)];
      if (!this.logScale) return [queries, keys];
      return [mul(queries, Math.log(kPositions.shape[0]) / Math.log(this.originalLength)), keys];
    });
  }

  #turn(x: Tensor, positions: Tensor, frequencies: Tensor): Tensor {
    checkPositions('Clex', positions);
    const [, , seq, headDim] = x.shape as [number, number, number, number];
    if (x.rank !== 4 || headDim !== this.headDim || seq !== positions.shape[0]) {
      throw new ShapeError(
        `Clex: needs [batch, heads, ${positions.shape[0]}, ${this.headDim}] for its headDim and ` +
          `${positions.shape[0]} positions, not [${x.shape}].`,
      );
    }
    const angles = mul(reshape(positions, [-1, 1]), frequencies);
    return rotaryEmbedding(x, cos(angles), sin(angles), { interleaved: this.layout === 'interleaved' });
  }

  #plain(): Float32Array {
    return ropeFrequencies({ dim: this.headDim, base: this.base }).inverseFrequencies;
  }

  #frequenciesAt(factor: number): Tensor {
    const pairs = this.headDim / 2;
    if (factor === 1) return tensor1d(this.#plain());
    // A parametrization changes weights that stay as they are stored.
    const parametrized = [this.up, this.down].some(({ parametrizations }) => parametrizations.length > 0);
    if (this.training || parametrized || currentTrace() !== undefined) {
      return oncePerPass(this, [factor], () =>
        tidy(() => reshape(slice(this.frequencies([1, factor]), [1, 0], [1, -1]), [pairs])),
      );
    }
    const [up, down] = [this.up.stored, this.down.stored];
    // Weights are replaced and never written into, so their tensors tell whether they have changed.
    if (this.#known?.up !== up || this.#known.down !== down) {
      const times = Array.from({ length: this.maxFactor }, (_, i) => i + 1);
      this.known.assign(noGrad(() => this.frequencies(times)));
      this.#known = { up, down };
    }
    return tidy(() => reshape(slice(this.known.stored, [factor - 1, 0], [1, -1]), [pairs]));
  }

  #checkFactor(factor: number): void {
    if (!Number.isInteger(factor) || factor < 1 || factor > this.maxFactor) {
      throw new ConfigError(`Clex: factor is ${factor}; it must be a whole number from 1 to ${this.maxFactor}.`);
    }
  }
}

/** The positions of `Clex.trainingPositions` for the `length - 2` rising numbers that were drawn. */
export function spreadPositions(
  drawn: ArrayLike<number>,
  length: number,
  factor: number,
  originalLength: number,
): Float32Array {
  const stretch = Math.max(1, Math.floor(length / originalLength));
  return Float32Array.from([
    0,
    ...Array.from(drawn, (place) => (place + 1) / stretch),
    Math.floor((length * factor) / stretch) - 1,
  ]);
}

/** `ln ntk(t)` and its derivative in `t`, for each pair of channels. */
export function ntkPrior(t: number, headDim: number, base: number): { value: number[]; slope: number[] } {
  const stretch = Math.max(1, 2 * t - 1);
  const exponents = Array.from({ length: headDim / 2 }, (_, i) => -2 * i);
  return {
    value: exponents.map((e) => (e / headDim) * Math.log(base) + (e / (headDim - 2)) * Math.log(stretch)),
    slope: exponents.map((e) => (2 * e) / ((headDim - 2) * stretch)),
  };
}
