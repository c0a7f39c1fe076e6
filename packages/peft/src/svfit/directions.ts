import {
  ConfigError,
  matMul,
  mul,
  orthogonal,
  Rng,
  slice,
  sum,
  type Tensor1D,
  type Tensor2D,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { cachedSvd, svdAlgorithm } from '../cached-svd.ts';
import { patternKey } from '../match.ts';
import { type CheckedSVFitConfig, rankForEnergy } from './config.ts';
import type { Directions } from './layer.ts';

/**
 * The directions of one layer that train, as `config` chooses them; the caller owns them.
 * @throws ConfigError for more than there are, or a weight of zeros.
 */
export function chooseDirections(path: string, matrix: Tensor2D, config: CheckedSVFitConfig): Directions {
  const { r, energy, energyKind, rankPattern, selection, svd, cacheDir, seed } = config;
  const [rows, columns] = matrix.shape;
  const full = Math.min(rows, columns);
  const asked = rankPattern[patternKey(Object.keys(rankPattern), path)] ?? r;
  if (asked !== undefined && asked > full) {
    throw new ConfigError(`r is ${asked}; '${path}' has min(out, in) = ${full} singular values.`);
  }
  if (selection === 'random') return randomDirections(matrix, asked ?? full, new Rng(seed).fork(path));
  const algorithm = svd === 'auto' ? svdAlgorithm(matrix.shape, asked ?? full) : svd;
  const { u, s, vt } = cachedSvd(matrix, asked ?? full, algorithm, cacheDir);
  try {
    const values = s.dataSync<'float32'>();
    // Behind the numerical rank the directions are arbitrary.
    const rank = values.filter((value) => value > values[0] * Math.max(rows, columns) * 2 ** -23).length;
    if (rank === 0) throw new ConfigError(`The weight of '${path}' is zero: there is no direction to scale.`);
    const wanted = asked ?? (energy === undefined ? full : rankForEnergy(values, energy, energyKind));
    const count = Math.min(wanted, rank);
    if (count < wanted) console.warn(`SVFit: '${path}' has rank ${rank}; r is ${rank} there, not ${wanted}.`);
    const start = selection === 'bottom' ? rank - count : 0;
    return {
      u: slice(u, [0, start], [rows, count]),
      s: slice(s, [start], [count]),
      v: tidy(() => transpose(slice(vt, [start, 0], [count, columns]))),
    };
  } finally {
    for (const factor of [u, s, vt]) factor.dispose();
  }
}

/** `r` orthonormal directions on either side, and how strongly the matrix connects them: `s_j = u_j^T W v_j`. */
export function randomDirections(matrix: Tensor2D, r: number, rng: Rng): Directions {
  const [rows, columns] = matrix.shape;
  const u = orthogonal([rows, r], { rng: rng.fork('u') }) as Tensor2D;
  const v = orthogonal([columns, r], { rng: rng.fork('v') }) as Tensor2D;
  return { u, v, s: tidy((): Tensor1D => sum(mul(u, matMul(matrix, v)), 0)) };
}
