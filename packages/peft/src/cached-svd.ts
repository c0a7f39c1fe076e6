import {
  ConfigError,
  nodeModule,
  Rng,
  randomizedSvd,
  type Svd,
  svd,
  type Tensor2D,
  tensor1d,
  tensor2d,
} from '@ashlar/tensor';

/** How to decompose: exactly, or the leading part by random projections. */
export type SvdAlgorithm = 'exact' | 'randomized';

/** Smaller matrices are decomposed exactly: that takes seconds at most. */
const SMALL = 512;

/** Above this share of all singular values the exact decomposition is no slower. */
const LEADING = 1 / 4;

/** The algorithm that suits the leading `rank` values of a matrix. */
export function svdAlgorithm([rows, columns]: readonly number[], rank: number): SvdAlgorithm {
  const most = Math.min(rows, columns);
  return most > SMALL && rank <= LEADING * most ? 'randomized' : 'exact';
}

/**
 * `svd`, or the leading `rank` values of `randomizedSvd` (the same for the same matrix), kept in a file of `cacheDir`
 * under a hash of the matrix. The results belong to the caller. Only in Node with a `cacheDir`.
 * @throws ConfigError where `cacheDir` cannot be written.
 */
export function cachedSvd(matrix: Tensor2D, rank: number, algorithm: SvdAlgorithm, cacheDir?: string): Svd {
  const size = algorithm === 'exact' ? Math.min(...matrix.shape) : rank;
  const compute = (): Svd =>
    algorithm === 'exact' ? svd(matrix) : randomizedSvd(matrix, rank, { rng: new Rng('cached-svd') });
  if (cacheDir === undefined) return compute();
  const { createHash } = nodeModule('node:crypto', 'cacheDir');
  const { join } = nodeModule('node:path', 'cacheDir');
  const digest = (...parts: readonly (Uint8Array | string)[]): Buffer =>
    parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
  const bytes = (values: Float32Array): Uint8Array =>
    new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const name = digest(`${matrix.shape} ${algorithm} ${size} `, bytes(matrix.dataSync<'float32'>())).toString('hex');
  const path = join(cacheDir, `${name}.svd`);
  const found = read(path, matrix.shape, size, digest);
  if (found !== undefined) return found;
  const factors = compute();
  const content = [factors.u, factors.s, factors.vt].map((factor) => bytes(factor.dataSync<'float32'>()));
  write(path, [...content, digest(...content)]);
  return factors;
}

/** The factors one after the other, and a hash over them; undefined where the file is missing or damaged. */
function read(
  path: string,
  [rows, columns]: readonly number[],
  size: number,
  digest: (part: Uint8Array) => Buffer,
): Svd | undefined {
  const fs = nodeModule('node:fs', path);
  if (!fs.existsSync(path)) return undefined;
  const file = fs.readFileSync(path);
  const end = 4 * size * (rows + 1 + columns);
  if (file.length !== end + 32 || !digest(file.subarray(0, end)).equals(file.subarray(end))) return undefined;
  const values = new Float32Array(new Uint8Array(file.subarray(0, end)).buffer);
  return {
    u: tensor2d(values.slice(0, rows * size), [rows, size]),
    s: tensor1d(values.slice(rows * size, (rows + 1) * size)),
    vt: tensor2d(values.slice((rows + 1) * size), [size, columns]),
  };
}

function write(path: string, content: readonly Uint8Array[]): void {
  const fs = nodeModule('node:fs', path);
  const { dirname } = nodeModule('node:path', path);
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  try {
    fs.mkdirSync(dirname(path), { recursive: true });
    fs.writeFileSync(temporary, Buffer.concat(content));
    fs.renameSync(temporary, path);
  } catch (error) {
    if (fs.existsSync(temporary)) fs.rmSync(temporary);
    throw new ConfigError(`cacheDir '${dirname(path)}' cannot be written: ${(error as Error).message}.`);
  }
}
