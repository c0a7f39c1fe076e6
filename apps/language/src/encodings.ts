import {
  Alibi,
  Clex,
  Dpe,
  DualChunk,
  LearnedAbsolute,
  Loope,
  MdLrpe,
  Nope,
  PositionalScores,
  ReRope,
  Rope,
  type RopeScaling,
  SelfExtend,
  SeqPe,
  type SeqPeTrainingOptions,
  Sinusoidal,
  Sinusoidal2d,
  T5RelativeBias,
} from '@ashlar/encodings';
import type { PositionEncoding, Rng } from '@ashlar/tensor';

/** What an encoding must fit. */
export interface EncodingSetting {
  heads: number;
  headDim: number;
  layers: number;
  /** The longest sequence in training; for patches a square of about as many. */
  trainedLength: number;
  rng: Rng;
}

/** An encoding that a command knows by name. */
export interface NamedEncoding {
  description: string;
  make(setting: EncodingSetting): PositionEncoding;
}

const scaled =
  (rope_type: string, fields: Omit<RopeScaling, 'rope_type' | 'factor'> = {}) =>
  ({ headDim, trainedLength }: EncodingSetting): Rope =>
    new Rope({ headDim, maxPositions: trainedLength, scaling: { rope_type, factor: 4, ...fields } });

const seqpe = (axes: number, training?: (trainedLength: number) => SeqPeTrainingOptions): NamedEncoding['make'] => {
  return ({ heads, headDim, layers, trainedLength, rng }) =>
    new SeqPe({
      mode: 'attn_scalar',
      encoder: { dim: heads * headDim, heads },
      axes,
      heads,
      headDim,
      layers,
      maxPosition: (8 * trainedLength) ** axes,
      training: training?.(trainedLength),
      rng,
    });
};

/** Smaller than the paper's, 32 of 64 each: for two CPU cores. */
const seqpeLosses = (trainedLength: number): SeqPeTrainingOptions => ({
  window: trainedLength,
  contrastive: { pivots: 8, candidates: Math.min(16, 8 * trainedLength - 1) },
  transfer: { windows: 4, positions: Math.min(16, trainedLength) },
});

/** The encodings for text, by name; those that extend a trained length do so fourfold. */
export const ENCODINGS: Readonly<Record<string, NamedEncoding>> = {
  none: { description: 'NoPE: the causal mask alone', make: () => new Nope() },
  sinusoidal: {
    description: 'fixed sines and cosines, added (APE)',
    make: ({ heads, headDim }) => new Sinusoidal({ dim: heads * headDim }),
  },
  learned: {
    description: 'a learned table, added',
    make: ({ heads, headDim, trainedLength, rng }) =>
      new LearnedAbsolute({ maxPositions: trainedLength, dim: heads * headDim, rng }),
  },
  positional: {
    description: 'logits of learned vectors of positions alone',
    make: ({ heads, headDim, layers, trainedLength, rng }) =>
      new PositionalScores({ maxPositions: trainedLength, heads, dim: headDim, layers, rng }),
  },
  seqpe: { description: 'positions read digit by digit, with the two losses of SeqPE', make: seqpe(1, seqpeLosses) },
  t5: {
    description: 'a learned bias by bucket of distance',
    make: ({ heads, rng }) => new T5RelativeBias({ heads, rng }),
  },
  lrpe: {
    description: 'cosines and sines of relative positions (MD-LRPE)',
    make: ({ headDim }) => new MdLrpe({ headDim }),
  },
  alibi: { description: 'a penalty linear in the distance', make: ({ heads }) => new Alibi({ heads }) },
  rope: { description: 'rotation', make: ({ headDim }) => new Rope({ headDim }) },
  linear: { description: 'RoPE, positions interpolated', make: scaled('linear') },
  ntk: { description: 'RoPE, a larger base', make: scaled('ntk') },
  dynamic: { description: 'RoPE, a base that grows with the length', make: scaled('dynamic') },
  yarn: { description: 'RoPE, slow pairs interpolated', make: scaled('yarn') },
  llama3: {
    description: 'RoPE, long wavelengths interpolated',
    make: scaled('llama3', { low_freq_factor: 1, high_freq_factor: 4 }),
  },
  clex: {
    description: 'RoPE, frequencies learned as a function of the length, at spread positions',
    make: ({ headDim, trainedLength, rng }) =>
      new Clex({ headDim, originalLength: trainedLength, maxFactor: 4, stepSize: 0.1, rng }),
  },
  selfextend: {
    description: 'RoPE, far tokens in groups',
    make: ({ headDim, trainedLength }) => new SelfExtend({ headDim, window: windowOf(trainedLength), group: 8 }),
  },
  rerope: {
    description: 'RoPE, far tokens all at one distance',
    make: ({ headDim, trainedLength }) => new ReRope({ headDim, window: windowOf(trainedLength) }),
  },
  dualchunk: {
    description: 'RoPE, places within chunks',
    make: ({ headDim, trainedLength }) => {
      const chunkSize = Math.max(2, Math.ceil((3 * trainedLength) / 4));
      return new DualChunk({ headDim, chunkSize, localWindow: Math.min(windowOf(trainedLength), chunkSize - 1) });
    },
  },
  dpe: {
    description: 'RoPE, far distances at a scale for each group of pairs',
    make: ({ headDim, trainedLength }) => new Dpe({ headDim, window: windowOf(trainedLength), scales: [8, 4] }),
  },
};

/** Rows and columns of the square of patches for a length. */
export const gridOf = (trainedLength: number): [number, number] => {
  const side = Math.max(2, Math.round(Math.sqrt(trainedLength)));
  return [side, side];
};

/** The encodings for patches of pictures, by name. */
export const PATCH_ENCODINGS: Readonly<Record<string, NamedEncoding>> = {
  sinusoidal2d: {
    description: 'sines and cosines of rows and columns',
    make: ({ heads, headDim }) => new Sinusoidal2d({ dim: heads * headDim }),
  },
  rope2d: { description: 'rotation by rows and columns', make: ({ headDim }) => new Rope({ headDim, axes: 2 }) },
  lrpe2d: {
    description: 'cosines and sines of relative rows and columns (MD-LRPE)',
    make: ({ headDim }) => new MdLrpe({ headDim, axes: 2 }),
  },
  seqpe2d: { description: 'rows and columns read digit by digit', make: seqpe(2) },
  loope: {
    description: 'sines and cosines along the Gilbert curve',
    make: ({ heads, headDim, trainedLength, rng }) =>
      new Loope({ grid: gridOf(trainedLength), dim: heads * headDim, contextBias: false, rng }),
  },
};

/** A multiple of 8, so that decoding equals a full pass. */
function windowOf(trainedLength: number): number {
  return Math.max(8, 8 * Math.floor(trainedLength / 32));
}

/** The named list for `--help`. */
export const listOf = (encodings: Readonly<Record<string, NamedEncoding>>): string =>
  Object.entries(encodings)
    .map(([name, { description }]) => `  ${name.padEnd(12)} ${description}`)
    .join('\n');
