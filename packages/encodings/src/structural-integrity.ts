import { ConfigError, checkInteger, NumericsError, ShapeError, type Tensor } from '@ashlar/tensor';
import { ranks } from './rank-correlation.ts';

/** How well an embedding of patches keeps the geometry of their grid. */
export interface StructuralIntegrity {
  /** Whether similarity falls with the distance, in mean over all directions: 2 at best. */
  readonly undirectedMonotonicity: number;
  /** The same, direction by direction: 2 at best. */
  readonly directedMonotonicity: number;
  /** How much similarity differs between directions at one distance: 0 at best; negative where similarity is. */
  readonly undirectedAsymmetry: number;
}

/**
 * The patch embedding structural integrity (PESI) of a grid of embeddings `P`. With `S_c` the cosine similarity of all cells to
 * a cell `c`, mean over `c` of: `1 - rho` between the rounded distance and the mean of `S_c` at it (undirected monotonicity);
 * `1 - rho` between distance and `S_c` within each of `buckets` directions, mean over these (directed); standard deviation over
 * mean of `S_c` at a rounded distance, mean over distances (asymmetry; NaN where such a mean is 0). `rho = 1 - 6 sum d^2 /
 * (n (n^2 - 1))` on ranks, those of equals averaged: similarities that float32 cannot tell apart are equal.
 *
 * Source: LOOPE (2025, arXiv 2504.14386); rounding, empty buckets and the cell itself are reconstructed, and give the published
 * table to four digits.
 * @param embedding `[height, width, dim]`. @param options.buckets default 60.
 * @throws ShapeError for another rank or a single cell, ConfigError for an embedding that is 0 somewhere, NumericsError for one
 *   that is not finite.
 */
export async function structuralIntegrity(
  embedding: Tensor,
  options: { readonly buckets?: number } = {},
): Promise<StructuralIntegrity> {
  const { buckets = 60 } = options;
  checkInteger('structuralIntegrity', 'buckets', buckets);
  const [height, width, dim] = embedding.shape as [number, number, number];
  if (embedding.rank !== 3 || height * width < 2) {
    throw new ShapeError(
      `structuralIntegrity: the embedding must be [height, width, dim] of two cells or more, not [${embedding.shape}].`,
    );
  }
  const cells = directions(await embedding.data<'float32'>(), dim);
  const count = cells.length;
  let [undirected, directed, asymmetry] = [0, 0, 0];
  for (const [centre, own] of cells.entries()) {
    const levels = new Map<number, number[]>();
    const sectors = Array.from({ length: buckets }, () => ({
      distances: [] as number[],
      similarities: [] as number[],
    }));
    for (const [cell, other] of cells.entries()) {
      const down = Math.floor(cell / width) - Math.floor(centre / width);
      const right = (cell % width) - (centre % width);
      // Not Math.hypot, which may differ in the last digit between cells as far away.
      const [distance, similarity] = [Math.sqrt(down ** 2 + right ** 2), dot(own, other)];
      const level = Math.round(distance);
      const group = levels.get(level);
      if (group === undefined) levels.set(level, [similarity]);
      else group.push(similarity);
      const sector = Math.floor(Math.atan2(right, down) / ((2 * Math.PI) / buckets));
      const { distances, similarities } = sectors[((sector % buckets) + buckets) % buckets];
      distances.push(distance);
      similarities.push(similarity);
    }
    const groups = [...levels.values()];
    undirected += 1 - rho([...levels.keys()], groups.map(mean));
    directed += 1 - mean(sectors.map(({ distances, similarities }) => rho(distances, similarities, ROUNDING)));
    asymmetry += mean(groups.map((group) => deviation(group) / mean(group)));
  }
  return {
    undirectedMonotonicity: undirected / count,
    directedMonotonicity: directed / count,
    undirectedAsymmetry: asymmetry / count,
  };
}

/** Each embedding, of length 1. */
function directions(values: Float32Array, dim: number): Float64Array[] {
  return Array.from({ length: values.length / dim }, (_, i) => {
    const vector = Float64Array.from(values.subarray(i * dim, (i + 1) * dim));
    const length = Math.sqrt(dot(vector, vector));
    if (length > 0 && length < Infinity) return vector.map((value) => value / length);
    if (length !== 0) throw new NumericsError(`structuralIntegrity: the embedding of cell ${i} is not finite.`);
    throw new ConfigError(
      `structuralIntegrity: the embedding of cell ${i} is 0 and has no direction; leave out what is not trained yet.`,
    );
  });
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function deviation(values: readonly number[]): number {
  const centre = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - centre) ** 2)));
}

/** Similarities of float32 embeddings that differ by less are equal. */
const ROUNDING = 1e-6;

/** Spearman's formula for ranks without ties, which the paper applies to all; 0 for less than two values. */
function rho(a: readonly number[], b: readonly number[], tolerance = 0): number {
  const n = a.length;
  if (n < 2) return 0;
  const [ranksA, ranksB] = [ranks(a), ranks(b, tolerance)];
  const squares = ranksA.reduce((sum, rank, i) => sum + (rank - ranksB[i]) ** 2, 0);
  return 1 - (6 * squares) / (n * (n * n - 1));
}
