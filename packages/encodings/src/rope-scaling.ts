import { ConfigError, checkNumber, closestNames } from '@ashlar/tensor';

/**
 * How RoPE's frequencies change to reach beyond the trained length: the fields of Hugging Face's `rope_scaling`
 * (`rope_parameters` in newer configs), under their names there, so that a published `config.json` can be passed as it is.
 */
export interface RopeScaling {
  /**
   * - `default`: none.
   * - `linear`: position interpolation, all frequencies divided by `factor` (Chen et al. 2023, arXiv 2306.15595).
   * - `ntk`: base times `factor^(d / (d - 2))` (bloc97, 2023).
   * - `dynamic`: NTK with a base that grows with the sequence beyond the trained length (emozilla, 2023).
   * - `ntk_by_parts`: YaRN's predecessor, a blend of plain, NTK and linear frequencies (bloc97, 2023).
   * - `yarn`: a blend of plain and linear frequencies, and hotter attention (Peng et al. 2023, arXiv 2309.00071).
   * - `dynamic_yarn`: YaRN with the sequence's length by the trained one as its factor.
   * - `llama3`: Llama 3.1's blend by wavelength (Grattafiori et al. 2024, arXiv 2407.21783).
   */
  readonly rope_type?: string;
  /** The older name of `rope_type`. */
  readonly type?: string;
  /** At least 1. */
  readonly factor?: number;
  /** Default: the encoding's `maxPositions`. */
  readonly original_max_position_embeddings?: number;
  /** yarn: what cosines and sines are multiplied by; default from `factor`, `mscale` and `mscale_all_dim`. */
  readonly attention_factor?: number;
  readonly mscale?: number;
  readonly mscale_all_dim?: number;
  /** yarn: pairs that turn more often than this within the trained length stay as they are. Default 32. */
  readonly beta_fast?: number;
  /** yarn: pairs that turn less often than this are interpolated. Default 1. */
  readonly beta_slow?: number;
  /** yarn: whether the ends of the blend are rounded to whole pairs. Default true. */
  readonly truncate?: boolean;
  /** llama3: wavelengths above the trained length by this are interpolated. */
  readonly low_freq_factor?: number;
  /** llama3: wavelengths below the trained length by this stay as they are. */
  readonly high_freq_factor?: number;
}

/** Radians per position of each pair of channels, and what cosines and sines are multiplied by. */
export interface RopeFrequencies {
  readonly inverseFrequencies: Float32Array;
  readonly attentionFactor: number;
}

interface Setting {
  readonly dim: number;
  readonly base: number;
  /** The trained length. */
  readonly original: number;
  /** At least 1. */
  readonly factor: number;
  /** Length of the sequence at hand. */
  readonly length: number;
  readonly scaling: RopeScaling;
}

type Rule = (setting: Setting) => { readonly frequencies: number[]; readonly attentionFactor?: number };

const RULES: Readonly<Record<string, Rule>> = {
  default: ({ dim, base }) => ({ frequencies: plain(dim, base) }),

  linear: ({ dim, base, factor }) => ({ frequencies: plain(dim, base).map((f) => f / factor) }),

  ntk: ({ dim, base, factor }) => ({ frequencies: plain(dim, ntkBase(base, factor, dim)) }),

  dynamic: ({ dim, base, factor, original, length }) => {
    const growth = Math.max(1, (factor * length) / original - (factor - 1));
    return { frequencies: plain(dim, ntkBase(base, growth, dim)) };
  },

  ntk_by_parts: ({ dim, base, factor, original }) => {
    const blended = blend(
      plain(dim, ntkBase(base, factor, dim)),
      plain(dim, base).map((f) => f / factor),
      correctionRamp(1.25, 0.75, dim, base, original),
    );
    return { frequencies: blend(plain(dim, base), blended, correctionRamp(16, 2, dim, base, original)) };
  },

  yarn: ({ dim, base, factor, original, scaling }) => {
    const { beta_fast = 32, beta_slow = 1, truncate = true, mscale, mscale_all_dim } = scaling;
    const ramp = correctionRamp(beta_fast, beta_slow, dim, base, original, truncate);
    const temperature = (scale = 1): number => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
    return {
      frequencies: blend(
        plain(dim, base),
        plain(dim, base).map((f) => f / factor),
        ramp,
      ),
      attentionFactor:
        scaling.attention_factor ??
        (mscale && mscale_all_dim ? temperature(mscale) / temperature(mscale_all_dim) : temperature()),
    };
  },

  dynamic_yarn: (setting) => RULES.yarn({ ...setting, factor: Math.max(1, setting.length / setting.original) }),

  llama3: ({ dim, base, factor, original, scaling }) => {
    const { low_freq_factor = 1, high_freq_factor = 4 } = scaling;
    if (!(high_freq_factor > low_freq_factor)) {
      throw new ConfigError(
        `RoPE scaling: high_freq_factor is ${high_freq_factor}; it must be above low_freq_factor, ${low_freq_factor}.`,
      );
    }
    const ramp = plain(dim, base).map((f) => {
      const turns = (original * f) / (2 * Math.PI);
      return 1 - clamp01((turns - low_freq_factor) / (high_freq_factor - low_freq_factor));
    });
    return {
      frequencies: blend(
        plain(dim, base),
        plain(dim, base).map((f) => f / factor),
        ramp,
      ),
    };
  },
};

/** Whether the frequencies depend on the length of the sequence. */
export function growsWithLength(scaling: RopeScaling): boolean {
  return ['dynamic', 'dynamic_yarn'].includes(ropeType(scaling));
}

/**
 * RoPE's frequencies `base^(-2i / dim)`, `i = 0 .. dim/2 - 1`, after scaling.
 * @param options.dim the number of rotated channels, even.
 * @param options.maxPositions the trained length, where `scaling` does not give it.
 * @param options.length the length of the sequence, for the dynamic rules. Default the trained length.
 * @throws ConfigError for an unknown type or a field out of range.
 */
export function ropeFrequencies(options: {
  readonly dim: number;
  readonly base: number;
  readonly scaling?: RopeScaling;
  readonly maxPositions?: number;
  readonly length?: number;
}): RopeFrequencies {
  const { dim, base, scaling = {}, maxPositions } = options;
  const type = ropeType(scaling);
  const original = scaling.original_max_position_embeddings ?? maxPositions;
  if (!['default', 'linear', 'ntk'].includes(type)) {
    checkNumber('RoPE scaling: original_max_position_embeddings (or maxPositions)', original ?? Number.NaN, {
      above: 0,
    });
  }
  const factor = scaling.factor ?? (original && maxPositions ? Math.max(1, maxPositions / original) : 1);
  if (!(factor >= 1 && Number.isFinite(factor))) {
    throw new ConfigError(`RoPE scaling: factor is ${factor}; it must be at least 1.`);
  }
  const trained = original ?? 1;
  const { frequencies, attentionFactor = 1 } = RULES[type]({
    dim,
    base,
    original: trained,
    factor,
    length: Math.max(options.length ?? trained, trained),
    scaling,
  });
  return { inverseFrequencies: Float32Array.from(frequencies), attentionFactor };
}

function ropeType(scaling: RopeScaling): string {
  const type = scaling.rope_type ?? scaling.type ?? 'default';
  if (Object.hasOwn(RULES, type)) return type;
  throw new ConfigError(
    `RoPE scaling: rope_type is '${type}'; it may be ${Object.keys(RULES).join(', ')}. ` +
      `Closest: ${closestNames(type, Object.keys(RULES), 1)}.`,
  );
}

function plain(dim: number, base: number): number[] {
  return Array.from({ length: dim / 2 }, (_, i) => base ** ((-2 * i) / dim));
}

function ntkBase(base: number, factor: number, dim: number): number {
  // With two channels there is one frequency, 1, whatever the base.
  return dim > 2 ? base * factor ** (dim / (dim - 2)) : base;
}

/** `from` where `ramp` is 0, `to` where it is 1. */
function blend(from: number[], to: number[], ramp: number[]): number[] {
  return from.map((value, i) => value * (1 - ramp[i]) + to[i] * ramp[i]);
}

/**
 * 0 for pairs that turn more than `fast` times within `length` positions, 1 for those that turn less than `slow` times,
 * linear in the pair's index between.
 */
export function correctionRamp(
  fast: number,
  slow: number,
  dim: number,
  base: number,
  length: number,
  truncate = true,
): number[] {
  const [low, high] = correctionRange(fast, slow, dim, base, length, truncate);
  const width = high === low ? 0.001 : high - low;
  return Array.from({ length: dim / 2 }, (_, i) => clamp01((i - low) / width));
}

/** The pairs between which `correctionRamp` rises. */
export function correctionRange(
  fast: number,
  slow: number,
  dim: number,
  base: number,
  length: number,
  truncate = true,
): [number, number] {
  const pairOf = (turns: number): number => (dim * Math.log(length / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const low = truncate ? Math.floor(pairOf(fast)) : pairOf(fast);
  const high = truncate ? Math.ceil(pairOf(slow)) : pairOf(slow);
  return [Math.max(low, 0), Math.min(high, dim - 1)];
}

function clamp01(x: number): number {
  return Math.max(0, Math.min(1, x));
}
