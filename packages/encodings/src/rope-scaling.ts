import { ConfigError, checkChoice, checkNumber, type NumberRange, quote, ShapeError } from '@ashlar/tensor';

/**
 * How RoPE's frequencies change to reach beyond the trained length: the fields of Hugging Face's `rope_scaling`
 * (`rope_parameters` in newer configs), under their names there, so that a published `config.json` can be passed as it is.
 * A field that is null is as absent; others than these are ignored.
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
  readonly rope_type?: string | null;
  /** The older name of `rope_type`. */
  readonly type?: string | null;
  /** At least 1. All types but `default` and `dynamic_yarn` need it. */
  readonly factor?: number | null;
  /** Default: the encoding's `maxPositions`, which `dynamic` takes in any case, as transformers does. */
  readonly original_max_position_embeddings?: number | null;
  /** yarn: what cosines and sines are multiplied by; default from `factor`, `mscale` and `mscale_all_dim`. */
  readonly attention_factor?: number | null;
  readonly mscale?: number | null;
  readonly mscale_all_dim?: number | null;
  /** yarn: pairs that turn more often than this within the trained length stay as they are. Default, also for 0, 32. */
  readonly beta_fast?: number | null;
  /** yarn: pairs that turn less often than this are interpolated. Default, also for 0, 1. */
  readonly beta_slow?: number | null;
  /** yarn: whether the ends of the blend are rounded to whole pairs. Default true. */
  readonly truncate?: boolean | null;
  /** llama3, which needs it: wavelengths above the trained length by this are interpolated. */
  readonly low_freq_factor?: number | null;
  /** llama3, which needs it: wavelengths below the trained length by this stay as they are. */
  readonly high_freq_factor?: number | null;
}

/** More channels than any head has: a stranger's config asks for no gigabytes. */
export const MAX_CHANNELS: number = 2 ** 16;

/** Radians per position of each pair of channels, and what cosines and sines are multiplied by. */
export interface RopeFrequencies {
  readonly inverseFrequencies: Float32Array;
  readonly attentionFactor: number;
}

const RANGES = {
  factor: { min: 1 },
  original_max_position_embeddings: { min: 1, integer: true },
  attention_factor: { above: 0 },
  mscale: { min: 0 },
  mscale_all_dim: { min: 0 },
  beta_fast: { min: 0 },
  beta_slow: { min: 0 },
  low_freq_factor: { above: 0 },
  high_freq_factor: { above: 0 },
} satisfies Readonly<Record<string, NumberRange>>;

type Field = keyof typeof RANGES;

interface Setting {
  readonly dim: number;
  readonly base: number;
  /** The trained length. */
  readonly original: number;
  /** At least 1. */
  readonly factor: number;
  /** Length of the sequence at hand. */
  readonly length: number;
  readonly fields: Partial<Record<Field, number>>;
  readonly truncate: boolean;
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

  yarn: ({ dim, base, factor, original, fields, truncate }) => {
    const { beta_fast, beta_slow, mscale, mscale_all_dim } = fields;
    const ramp = correctionRamp(beta_fast || 32, beta_slow || 1, dim, base, original, truncate);
    const temperature = (scale = 1): number => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
    return {
      frequencies: blend(
        plain(dim, base),
        plain(dim, base).map((f) => f / factor),
        ramp,
      ),
      attentionFactor:
        fields.attention_factor ??
        (mscale && mscale_all_dim ? temperature(mscale) / temperature(mscale_all_dim) : temperature()),
    };
  },

  dynamic_yarn: (setting) => RULES.yarn({ ...setting, factor: Math.max(1, setting.length / setting.original) }),

  llama3: ({ dim, base, factor, original, fields }) => {
    const { low_freq_factor, high_freq_factor } = fields as Record<Field, number>;
    checkNumber('rope_scaling.high_freq_factor (with this low_freq_factor)', high_freq_factor, {
      above: low_freq_factor,
    });
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

const REQUIRED: Readonly<Record<string, readonly Field[]>> = {
  linear: ['factor'],
  ntk: ['factor'],
  dynamic: ['factor'],
  ntk_by_parts: ['factor'],
  yarn: ['factor'],
  llama3: ['factor', 'low_freq_factor', 'high_freq_factor'],
};

/** Whether the frequencies depend on the length of the sequence. */
export function growsWithLength(scaling: RopeScaling | null | undefined): boolean {
  return ['dynamic', 'dynamic_yarn'].includes(ropeType(scaling ?? {}));
}

/**
 * RoPE's frequencies `base^(-2i / dim)`, `i = 0 .. dim/2 - 1`, after scaling.
 * @param options.dim the number of rotated channels, even.
 * @param options.maxPositions the trained length, where `scaling` does not give it.
 * @param options.length the length of the sequence, for the dynamic rules. Default the trained length.
 * @throws ConfigError for an unknown type, a field that it lacks or one out of range; ShapeError for an odd `dim`.
 */
export function ropeFrequencies(options: {
  readonly dim: number;
  readonly base: number;
  readonly scaling?: RopeScaling | null;
  readonly maxPositions?: number | null;
  readonly length?: number;
}): RopeFrequencies {
  const { dim, base, maxPositions, length } = options;
  const owner = 'ropeFrequencies';
  checkNumber(`${owner}: dim`, dim, { integer: true, min: 2, max: MAX_CHANNELS });
  if (dim % 2 !== 0) throw new ShapeError(`${owner}: dim is ${dim}; it must be even, for pairs.`);
  checkNumber(`${owner}: base`, base, { above: 1 });
  if (length !== undefined) checkNumber(`${owner}: length`, length, { min: 0 });
  if (maxPositions != null) checkNumber(`${owner}: maxPositions`, maxPositions, { integer: true, min: 1 });
  const scaling = options.scaling ?? {};
  const type = ropeType(scaling);
  const fields = readFields(scaling, type);
  const given = fields.original_max_position_embeddings;
  const original = (type === 'dynamic' ? (maxPositions ?? given) : (given ?? maxPositions)) ?? undefined;
  if (original === undefined && !['default', 'linear', 'ntk'].includes(type)) {
    throw new ConfigError(
      `rope_scaling.original_max_position_embeddings (or maxPositions) is undefined; ${type} needs the trained length.`,
    );
  }
  const trained = original ?? 1;
  const { frequencies, attentionFactor = 1 } = RULES[type]({
    dim,
    base,
    original: trained,
    factor: fields.factor ?? 1,
    length: Math.max(length ?? trained, trained),
    fields,
    truncate: scaling.truncate ?? true,
  });
  return { inverseFrequencies: Float32Array.from(frequencies), attentionFactor };
}

/** The numbers of `scaling` that are not null. */
function readFields(scaling: RopeScaling, type: string): Partial<Record<Field, number>> {
  const fields: Partial<Record<Field, number>> = {};
  for (const [name, range] of Object.entries(RANGES) as [Field, NumberRange][]) {
    const value = scaling[name];
    if (value == null) {
      if (REQUIRED[type]?.includes(name)) {
        throw new ConfigError(`rope_scaling.${name} is ${quote(value)}; ${type} needs it, a number.`);
      }
      continue;
    }
    checkNumber(`rope_scaling.${name}`, value, range);
    fields[name] = value;
  }
  if (scaling.truncate != null) checkChoice('rope_scaling', 'truncate', scaling.truncate, [true, false]);
  return fields;
}

function ropeType(scaling: RopeScaling): string {
  const types = Object.keys(RULES);
  if (typeof scaling !== 'object' || Array.isArray(scaling)) {
    throw new ConfigError(`rope_scaling is ${quote(scaling)}; it must be an object such as { rope_type, factor }.`);
  }
  const type: unknown = scaling.rope_type ?? scaling.type;
  if (type === undefined || type === null) {
    // Without a type nothing is scaled, which is not what someone means who gives a factor.
    const stray = (Object.keys(RANGES) as Field[]).find(
      (name) => name !== 'original_max_position_embeddings' && scaling[name] != null,
    );
    if (stray === undefined) return 'default';
    throw new ConfigError(
      `rope_scaling.rope_type is ${quote(type)}, but ${stray} is ${quote(scaling[stray])}; ` +
        `give the type, one of ${types.join(', ')}.`,
    );
  }
  if (typeof type === 'string' && Object.hasOwn(RULES, type)) return type;
  throw new ConfigError(
    `rope_scaling.rope_type is ${quote(type)}, which is not supported; it may be ${types.join(', ')}.`,
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
