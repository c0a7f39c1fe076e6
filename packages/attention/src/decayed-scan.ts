import {
  add,
  concat,
  exp,
  matMul,
  mul,
  onesLike,
  pad,
  reshape,
  slice,
  stack,
  stopGradient,
  sub,
  sum,
  type Tensor,
  tidy,
  tile,
  unstack,
  zeros,
  zerosLike,
} from '@ashlar/tensor';
import { associativeScan } from './associative-scan.ts';

const CHUNK = 64;

/** What the tokens so far have left: `s` `[b, h, d, e]` as of the clock `z` `[b, h, d]`. */
interface Carried {
  readonly s: Tensor;
  readonly z: Tensor;
}

/**
 * `o_t = q_t^T S_t` with `S_t = sum_{s <= t} diag(exp(z_s - z_t)) k_s v_s^T`: linear attention whose key channels decay as
 * the clock `z` runs. In chunks of 64 tokens: exact, of cost linear in the length. No exponent is ever positive, whatever
 * the size of `z`: `exp(z_s - z_t)` is `exp(z_s - r) exp(r - z_t)` with `r` the clock somewhere BETWEEN `s` and `t`.
 * @param q, k `[b, h, n, d]`. @param v `[b, h, n, e]`.
 * @param z `[b, h, n, d]`, or `[b, h, n, 1]` for one clock for all channels; must not fall.
 * @returns `output` `[b, h, n, e]` and the last state `s` `[b, h, d, e]`.
 */
export function decayedScan(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  z: Tensor,
  initial?: Carried,
): { output: Tensor; s: Tensor } {
  const [batch, heads, length, width] = q.shape as [number, number, number, number];
  const rows = batch * heads;
  const [values, clocks] = [v.shape[3] as number, z.shape[3] as number];
  const chunk = Math.min(CHUNK, 2 ** Math.ceil(Math.log2(length)));
  const chunks = Math.ceil(length / chunk);
  return tidy(() => {
    const missing = chunks * chunk - length;
    const inChunks = (x: Tensor, lengthened: Tensor): Tensor =>
      reshape(lengthened, [rows, chunks, chunk, x.shape[3] as number]);
    const [qs, ks, vs] = [q, k, v].map((x) =>
      inChunks(
        x,
        missing === 0
          ? x
          : pad(x, [
              [0, 0],
              [0, 0],
              [0, missing],
              [0, 0],
            ]),
      ),
    );
    const last = slice(z, [0, 0, length - 1, 0], [-1, -1, 1, -1]);
    const zs = inChunks(z, missing === 0 ? z : concat([z, tile(last, [1, 1, missing, 1])], 2));
    const ends = slice(zs, [0, 0, chunk - 1, 0], [-1, -1, 1, -1]);
    // Without a state before it there is nothing that could decay.
    const start = initial === undefined ? slice(zs, [0, 0, 0, 0], [-1, 1, 1, -1]) : initial.z;
    const bounds = concat([reshape(start, [rows, 1, 1, clocks]), ends], 1);
    const starts = slice(bounds, [0, 0, 0, 0], [-1, chunks, -1, -1]);

    const own = matMul(mul(ks, exp(sub(zs, ends))), vs, true, false);
    const before =
      initial === undefined ? zeros([rows, 1, width, values]) : reshape(initial.s, [rows, 1, width, values]);
    const decays = reshape(exp(sub(starts, ends)), [rows, chunks, clocks, 1]);
    const one = onesLike(slice(decays, [0, 0, 0, 0], [-1, 1, -1, -1]));
    const [, states] = associativeScan(
      [concat([one, decays], 1), concat([before, own], 1)],
      ([decay1, state1], [decay2, state2]) => [mul(decay1, decay2), add(mul(decay2, state1), state2)],
    );
    const previous = slice(states, [0, 0, 0, 0], [-1, chunks, -1, -1]);
    const all = add(withinChunks(qs, ks, vs, zs), matMul(mul(qs, exp(sub(starts, zs))), previous));
    const output = slice(reshape(all, [batch, heads, -1, values]), [0, 0, 0, 0], [-1, -1, length, -1]);
    return { output, s: reshape(slice(states, [0, chunks, 0, 0]), [batch, heads, width, values]) };
  });
}

/** The part of each output that comes from its own chunk: halves read the halves before them, at every size. */
function withinChunks(q: Tensor, k: Tensor, v: Tensor, z: Tensor): Tensor {
  const chunk = q.shape[2] as number;
  let output = mul(sum(mul(q, k), -1, true), v);
  for (let size = 1; size < chunk; size *= 2) {
    const halves = (x: Tensor): Tensor[] => unstack(reshape(x, [-1, 2, size, x.shape[3] as number]), 1);
    const [[, q2], [k1], [v1], [z1, z2]] = [q, k, v, z].map(halves);
    // The product of the two factors does not depend on it.
    const between = stopGradient(slice(z1, [0, size - 1, 0], [-1, 1, -1]));
    const weights = matMul(mul(q2, exp(sub(between, z2))), mul(k1, exp(sub(z1, between))), false, true);
    const read = matMul(weights, v1);
    output = add(output, reshape(stack([zerosLike(read), read], 1), output.shape));
  }
  return output;
}
