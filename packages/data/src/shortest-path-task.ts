import { mean, mul, type Rng, ShapeError, square, sub, sum, type Tensor, tensor3d, tidy, triu } from '@ashlar/tensor';
import { type AlgorithmicSampling, checkSampling, sampleRange } from './algorithmic-tasks.ts';

export interface ShortestPathOptions extends AlgorithmicSampling {
  /** Nodes of the graph. */
  readonly n: number;
}

/**
 * Distances between the nodes of path graphs in random order. Row `i` of an input has the weights of node `i`'s edges, 0 where
 * there is none; row `i` of its target the distances from node `i`. Weights are drawn as `algorithmicTask` draws numbers; the
 * graph is undirected (reconstructed).
 *
 * Source: Back de Luca et al., "Positional Attention" (ICML 2025, arXiv 2410.01686).
 * @returns `x` and `y`, `[samples, n + extraNodes, n]`. The caller disposes of them.
 * @throws ConfigError as `algorithmicTask`.
 */
export function shortestPathTask(options: ShortestPathOptions, rng: Rng): { x: Tensor; y: Tensor } {
  const { n, samples, extraNodes } = checkSampling('shortestPathTask', options, 2);
  const rows = n + extraNodes;
  const [xs, ys] = [new Float32Array(samples * rows * n), new Float32Array(samples * rows * n)];
  for (let sample = 0; sample < samples; sample++) {
    const [l, u] = sampleRange(options, rng);
    const order = rng.permutation(n);
    const weights = Array.from(rng.uniformArray(n - 1), (unit) => Math.fround(l + (u - l) * unit));
    for (let i = 0; i < n; i++) {
      let distance = 0;
      for (let j = i + 1; j < n; j++) {
        distance += weights[j - 1];
        for (const [from, to] of [
          [order[i], order[j]],
          [order[j], order[i]],
        ]) {
          const place = (sample * rows + from) * n + to;
          ys[place] = distance;
          if (j === i + 1) xs[place] = distance;
        }
      }
    }
  }
  const shape: [number, number, number] = [samples, rows, n];
  return { x: tensor3d(xs, shape), y: tensor3d(ys, shape) };
}

/**
 * Mean squared error over the pairs of different nodes, each once: the part above the diagonal of `[batch, nodes, n]`, of which
 * nodes beyond `n` are left out.
 * @throws ShapeError unless both have one such shape, `n` at least 2.
 */
export function upperTriangleMse(out: Tensor, y: Tensor): Tensor {
  const [, nodes, n] = out.shape as [number, number, number];
  if (out.rank !== 3 || String(out.shape) !== String(y.shape) || n < 2 || nodes < n) {
    throw new ShapeError(
      `upperTriangleMse takes two tensors [batch, nodes, n] of at least n nodes, n >= 2; not [${out.shape}] and [${y.shape}]`,
    );
  }
  return tidy(() => mul(mean(sum(triu(square(sub(out, y)), 1), [1, 2])), 2 / (n * (n - 1))));
}
