import {
  add,
  ConfigError,
  checkEncoding,
  checkInteger,
  checkNumber,
  Module,
  matMul,
  mean,
  mul,
  ones,
  type PositionEncoding,
  quote,
  reshape,
  ShapeError,
  type Tensor,
  tensor2d,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { correlation, rankCorrelation } from './rank-correlation.ts';

export interface InspectOptions {
  /** Heads of the attention that the encoding is for. Default 4. */
  readonly heads?: number;
  /** Channels of a head. Default 16. */
  readonly headDim?: number;
  /** Positions looked at, 0 to `length - 1`: the trained length, where there is one. From 3 to 2048. Default 32. */
  readonly length?: number;
  /** For encodings of two axes or more, in place of `length`: rows and columns, or all sides, of the grid looked at. */
  readonly grid?: readonly number[];
  /** How many times `length`, or the last side of `grid`, the extrapolation curve reaches. Default 4. */
  readonly reach?: number;
  /** Whether only keys up to the query count for monotonicity and shift invariance. Default true; false with `grid`. */
  readonly causal?: boolean;
  /** Default 0. */
  readonly layer?: number;
}

/** What `inspect` finds. */
export interface Inspection {
  /** Whether keys after the query are left out of monotonicity and shift invariance. */
  readonly causal: boolean;
  /** What position adds to the attention logit of each query (row) and key, in mean over the heads. */
  readonly similarity: number[][];
  /** Mean over queries of minus the rank correlation of similarity and distance: 1 where similarity always falls. */
  readonly monotonicity: number;
  /** The share of the variance of similarity that the offset of key and query explains: 1 where it is all. */
  readonly shiftInvariance: number;
  /** Correlation of the similarity with its transpose: 1 where sides do not matter. */
  readonly symmetry: number;
  readonly extrapolation: Extrapolation;
}

export interface Extrapolation {
  /** What counts as trained: distances below. */
  readonly trained: number;
  /** Similarity by distance, from 0, as the last of `reach * length` positions sees its keys (along the last axis of a grid). */
  readonly similarity: number[];
  /** The share of the distances from `length` on whose similarity lies outside of what shorter distances have. */
  readonly unseen: number;
  /** Why there is none beyond `length`, if the encoding refuses longer positions. */
  readonly refusal?: string;
}

/**
 * Looks at what an encoding does to attention, apart from what tokens say. Queries and keys are the same everywhere: vectors
 * of ones, or what the encoding adds to tokens. `similarity` is their logit after `rotate`, with `bias`, or by `scores`.
 *
 * A module is asked in eval mode.
 *
 * Monotonicity, shift invariance and symmetry are the properties of Wang et al., "On position embeddings in BERT" (ICLR
 * 2021), measured here as `Inspection` says.
 * @throws ConfigError for an option out of range or what is no encoding, ShapeError if it is not for these heads and axes.
 */
export async function inspect(encoding: PositionEncoding, options: InspectOptions = {}): Promise<Inspection> {
  const { heads = 4, headDim = 16, length = 32, grid, reach = 4, causal = grid === undefined, layer = 0 } = options;
  checkEncoding('inspect', encoding);
  for (const [name, value] of Object.entries({ heads, headDim, reach })) checkInteger('inspect', name, value);
  const sides = grid === undefined ? [length] : checkGrid(grid);
  // With two positions there is nothing to rank.
  if (grid === undefined) checkNumber('inspect: length', length, { integer: true, min: 3, max: MOST_POSITIONS });
  const side = sides[sides.length - 1];
  checkNumber(`inspect: reach times ${side}`, reach * side, { max: MOST_REACHED });
  const logits = (queries: number[][], keys: number[][]): Promise<Float32Array> =>
    positionLogits(encoding, queries, keys, { heads, headDim, layer });

  const modules = encoding instanceof Module ? Array.from(encoding.namedModules(), ([, module]) => module) : [];
  const modes = modules.map(({ training }) => training);
  for (const module of modules) module.training = false;
  try {
    const places = placesIn(sides);
    const flat = await logits(places, places);
    const similarity = places.map((_, i) => Array.from(flat.subarray(i * places.length, (i + 1) * places.length)));
    const { monotonicity, shiftInvariance } = byDistance(similarity, places, causal);
    const transposed = similarity.flatMap((_, j) => similarity.map((row) => row[j]));
    return {
      causal,
      similarity,
      monotonicity,
      shiftInvariance,
      symmetry: varies(flat) ? correlation(flat, transposed) : 1,
      extrapolation: await extrapolate(logits, sides, reach),
    };
  } finally {
    for (const [i, module] of modules.entries()) module.training = modes[i];
  }
}

/** Of which all pairs are looked at. */
const MOST_POSITIONS = 2048;
/** Of which one sees all others. */
const MOST_REACHED = 2 ** 16;

function checkGrid(grid: readonly number[]): readonly number[] {
  if (!Array.isArray(grid) || grid.length < 2) {
    throw new ConfigError(
      `inspect: grid is ${quote(grid)}; it must have two sides or more: for one axis, give length.`,
    );
  }
  for (const [i, side] of grid.entries()) checkInteger('inspect', `grid[${i}]`, side, 2);
  const count = grid.reduce((product, side) => product * side, 1);
  if (count <= MOST_POSITIONS) return grid;
  throw new ConfigError(`inspect: grid is [${grid}], ${count} positions; it must have at most ${MOST_POSITIONS}.`);
}

/** All positions of a grid, the last axis fastest. */
function placesIn(sides: readonly number[]): number[][] {
  return sides.reduce<number[][]>(
    (places, side) => places.flatMap((place) => Array.from({ length: side }, (_, i) => [...place, i])),
    [[]],
  );
}

function byDistance(
  similarity: readonly (readonly number[])[],
  places: readonly (readonly number[])[],
  causal: boolean,
): { monotonicity: number; shiftInvariance: number } {
  const groups = new Map<string, number[]>();
  const falls: number[] = [];
  for (const [i, query] of places.entries()) {
    const keys = causal ? places.slice(0, i + 1) : places;
    for (const [j, key] of keys.entries()) {
      const offset = String(key.map((coordinate, axis) => coordinate - query[axis]));
      const group = groups.get(offset);
      if (group === undefined) groups.set(offset, [similarity[i][j]]);
      else group.push(similarity[i][j]);
    }
    // Squared, and so exact: equal distances have equal ranks.
    const distances = keys.map((key) =>
      key.reduce((sum, coordinate, axis) => sum + (coordinate - query[axis]) ** 2, 0),
    );
    if (keys.length > 2) falls.push(-rankCorrelation(distances, similarity[i].slice(0, keys.length)));
  }
  const all = [...groups.values()].flat();
  const within = [...groups.values()].reduce((sum, group) => sum + squares(group), 0);
  return {
    monotonicity: falls.reduce((sum, value) => sum + value, 0) / falls.length,
    shiftInvariance: varies(all) ? 1 - within / squares(all) : 1,
  };
}

async function extrapolate(
  logits: (queries: number[][], keys: number[][]) => Promise<Float32Array>,
  sides: readonly number[],
  reach: number,
): Promise<Extrapolation> {
  const origin = sides.slice(1).map(() => 0);
  const length = sides[sides.length - 1];
  const along = async (total: number): Promise<number[]> => {
    const places = Array.from({ length: total }, (_, i) => [...origin, i]);
    return Array.from(await logits([places[total - 1]], places)).reverse();
  };
  try {
    const similarity = await along(reach * length);
    const seen = similarity.slice(0, length);
    const slack = 1e-5 * (Math.max(...seen.map(Math.abs)) + 1e-5);
    const [low, high] = [Math.min(...seen) - slack, Math.max(...seen) + slack];
    const beyond = similarity.slice(length);
    return {
      trained: length,
      similarity,
      unseen: beyond.filter((value) => value < low || value > high).length / (beyond.length || 1),
    };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { trained: length, similarity: await along(length), unseen: 1, refusal: error.message };
  }
}

/** Mean over heads of the logits, `[queries, keys]` row by row. */
async function positionLogits(
  encoding: PositionEncoding,
  queries: number[][],
  keys: number[][],
  { heads, headDim, layer }: { heads: number; headDim: number; layer: number },
): Promise<Float32Array> {
  const axes = keys[0].length;
  const logits = tidy(() => {
    const positions = (places: number[][]): Tensor => {
      const all = tensor2d(places, [places.length, axes], 'int32');
      return axes === 1 ? reshape(all, [-1]) : all;
    };
    const [qPositions, kPositions] = [positions(queries), positions(keys)];
    const content = (at: Tensor): Tensor => {
      const shape = [1, at.shape[0], heads, headDim];
      const embedded = encoding.embed?.(at);
      if (embedded !== undefined && embedded.shape[1] !== heads * headDim) {
        throw new ShapeError(
          `inspect: the encoding is ${embedded.shape[1]} wide; give heads and headDim whose product that is.`,
        );
      }
      return transpose(embedded === undefined ? ones(shape) : reshape(embedded, shape), [0, 2, 1, 3]);
    };
    const [q, k] = [content(qPositions), content(kPositions)];
    const context = { layer };
    if (encoding.scores) return mean(encoding.scores(q, k, qPositions, kPositions, context), [0, 1]);
    const [qs, ks] = encoding.rotate?.(q, k, qPositions, kPositions, context) ?? [q, k];
    const products = mul(matMul(qs, ks, false, true), 1 / Math.sqrt(headDim));
    const bias = encoding.bias?.(qPositions, kPositions, context);
    if (bias !== undefined && ![1, heads].includes(bias.shape[0])) {
      throw new ShapeError(`inspect: the encoding has biases for ${bias.shape[0]} heads, not ${heads}; give heads.`);
    }
    return mean(bias === undefined ? products : add(products, bias), [0, 1]);
  });
  const values = await logits.data<'float32'>();
  logits.dispose();
  return values;
}

function squares(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
}

/** Beyond what rounding does. */
function varies(values: ArrayLike<number>): boolean {
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < values.length; i++) {
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  return high - low > 1e-5 * Math.max(1e-5, Math.abs(low), Math.abs(high));
}
