import {
  ConfigError,
  div,
  gather,
  keep,
  matMul,
  mul,
  qr,
  type Rng,
  randomizedSvd,
  reshape,
  slice,
  sqrt,
  sub,
  svd,
  type Tensor,
  type Tensor2D,
  tidy,
  transpose,
  zeros,
} from '@ashlar/tensor';
import type { LoraInit } from './config.ts';
import { LoraEmbedding } from './embedding.ts';
import type { LoraLayer } from './layer.ts';
import { LoraLinear } from './linear.ts';

/**
 * Sets the factors of a fresh adapter, and the base weight where the adapter is cut out of it.
 *
 * - `true`: A Kaiming-uniform with a = sqrt(5), B zero (embeddings: A zero, B normal); `false`: both random;
 *   `'gaussian'`: A ~ N(0, 1/r^2), B zero.
 * - `'pissa'` (Meng et al. 2024, arXiv 2404.02948): with W = U S V^T, A = sqrt(S_r / s) V_r^T, B = U_r sqrt(S_r / s), and
 *   the base becomes W - s B A. `'pissa_niter_k'`: the same by randomized SVD with k subspace iterations.
 * - `'olora'` (Büyükakyüz 2024, arXiv 2406.01775): W = Q R, A = R[:r], B = Q[:, :r], the base becomes W - s B A.
 * - `'orthogonal'`: A and B random with B A = 0; r must be even.
 * @throws ConfigError where the layer or the rank does not allow it.
 */
export function initialize(layer: LoraLayer, name: string, init: LoraInit, rng: Rng): void {
  const { A, B } = layer.factors(name);
  const zero = layer instanceof LoraEmbedding ? A : B;
  if (init === true) {
    zero.assign(zeros(zero.shape));
    return;
  }
  if (init === false) {
    if (zero === A) A.assign(rng.fork('A').normal(A.shape as [number, number]));
    return;
  }
  if (init === 'gaussian') {
    const other = zero === A ? B : A;
    other.assign(rng.fork('gaussian').normal(other.shape as [number, number], { std: 1 / layer.adapter(name).r }));
    zero.assign(zeros(zero.shape));
    return;
  }
  if (!(layer instanceof LoraLinear)) {
    throw new ConfigError(`initLoraWeights '${init}' is defined for linear layers only.`);
  }
  if (init === 'orthogonal') orthogonal(layer, name, rng);
  else takeOut(layer, name, init, rng);
}

/** PiSSA and OLoRA: the factors take the leading part of the base weight with them. */
function takeOut(layer: LoraLinear, name: string, init: Exclude<LoraInit, boolean>, rng: Rng): void {
  const { weight } = layer.base_layer;
  const { A, B } = layer.factors(name);
  const adapter = layer.adapter(name);
  const { r } = adapter;
  const [fanOut, fanIn] = [B.shape[0], A.shape[1]];
  if (r > Math.min(fanIn, fanOut)) {
    throw new ConfigError(
      `r is ${r}; initLoraWeights '${init}' needs at most min(in, out) = ${Math.min(fanIn, fanOut)}.`,
    );
  }
  const [a, b] = tidy(() => {
    const stored = (layer.fanInFanOut ? transpose(weight.stored) : weight.stored) as Tensor2D;
    if (init === 'olora') {
      const { q, r: upper } = qr(stored);
      return [slice(upper, [0, 0], [r, fanIn]), slice(q, [0, 0], [fanOut, r])];
    }
    const iterations = Number(/^pissa_niter_(\d+)$/.exec(init)?.[1]);
    const { u, s, vt } = iterations > 0 ? randomizedSvd(stored, r, { iterations, rng: rng.fork('svd') }) : svd(stored);
    const root = sqrt(div(slice(s, [0], [r]), adapter.scaling));
    const left = mul(slice(u, [0, 0], [fanOut, r]), root);
    return [mul(slice(vt, [0, 0], [r, fanIn]), reshape(root, [r, 1])), left];
  });
  A.assign(a);
  B.assign(b);
  adapter.start = { A: keep(a.clone()), B: keep(b.clone()) };
  weight.assign(tidy(() => sub(weight.stored, layer.deltaWeight(name))));
}

/** A = (N_{in x r/2} Q[0::2])^T / 10 and B = N_{out x r/2} Q[1::2] / 10 with Q orthogonal: B A = 0, neither is zero. */
function orthogonal(layer: LoraLinear, name: string, rng: Rng): void {
  const { A, B } = layer.factors(name);
  const [r, fanIn] = A.shape;
  if (r % 2 !== 0) throw new ConfigError(`r is ${r}; initLoraWeights 'orthogonal' needs an even one.`);
  const half = r / 2;
  const [a, b] = tidy(() => {
    const { q } = qr(rng.fork('q').normal([r, r]));
    const rows = (first: number): Tensor =>
      gather(
        q,
        Array.from({ length: half }, (_, i) => 2 * i + first),
      );
    const left = matMul(rng.fork('A').normal([fanIn, half]), rows(0));
    return [div(transpose(left), 10), div(matMul(rng.fork('B').normal([B.shape[0], half]), rows(1)), 10)];
  });
  A.assign(a);
  B.assign(b);
}
