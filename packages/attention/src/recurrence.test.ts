import '@ashlar/backend-ort';
import '@tensorflow/tfjs-backend-cpu';
import {
  abs,
  add,
  gather,
  grads,
  jit,
  max,
  mean,
  mul,
  ones,
  Rng,
  reshape,
  reverse,
  ShapeError,
  setBackend,
  silu,
  slice,
  sub,
  sum,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
  transpose,
  zeros,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeEach, describe, expect, it } from 'vitest';
import { additiveRecurrence, linearAttention, oneScanAttention } from './index.ts';

const rng = new Rng('recurrences');
const random = (name: string, shape: number[], std = 1): Tensor => rng.fork(name).normal(shape, { std });
const furthest = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);
const tokens = (x: Tensor, from: number, count = -1): Tensor => slice(x, [0, 0, from, 0], [-1, -1, count, -1]);

const LENGTH = 150; // two chunks and a part of one

const inputs = (length = LENGTH, std = 1): Tensor[] => [
  random('q', [2, 2, length, 3]),
  random('k', [2, 2, length, 3]),
  random('v', [2, 2, length, 4]),
  random('g', [2, 2, length, 3], std),
];

/** The definition, in doubles: `[b][h][n][e]`. */
function reference([q, k, v, g]: Tensor[]): number[][][][] {
  const [qs, ks, vs, gs] = [q, k, v, g].map((x) => x.arraySync() as number[][][][]);
  return qs.map((heads, b) =>
    heads.map((rows, h) =>
      rows.map((row, t) =>
        vs[b][h][t].map((_, e) =>
          row.reduce((total, value, c) => {
            const top = Math.max(...gs[b][h].slice(0, t + 1).map((logits) => logits[c]));
            let [above, below] = [0, 0];
            for (let j = 0; j <= t; j++) {
              const weight = Math.exp(gs[b][h][j][c] - top);
              above += weight * ks[b][h][j][c] * vs[b][h][j][e];
              below += weight;
            }
            return total + (value * above) / below;
          }, 0),
        ),
      ),
    ),
  );
}

function expectClose(actual: Tensor, expected: number[][][][], limit = 5e-5): void {
  const values = actual.dataSync();
  const furthest = Math.max(...expected.flat(3).map((value, i) => Math.abs(values[i] - value)));
  expect(furthest).toBeLessThan(limit);
}

beforeEach(() => setBackend('cpu'));

describe('additiveRecurrence', () => {
  it.each([1, 20, 50])('is what its definition says, with logits of standard deviation %d', (std) => {
    const all = inputs(LENGTH, std);
    const { output } = additiveRecurrence(all[0], all[1], all[2], all[3]);
    expectClose(output, reference(all));
  });

  it('does not overflow where the logits rise or fall by 100 within a chunk', () => {
    const [q, k, v] = inputs(8);
    const rising = mul(ones([2, 2, 8, 3]), reshape(tensor1d([-50, 50, -50, 50, -50, -50, 50, -50]), [8, 1]));
    for (const g of [rising, reverse(rising, 2)]) {
      expectClose(additiveRecurrence(q, k, v, g).output, reference([q, k, v, g]));
    }
  });

  it('goes on from a state as if it had not stopped', () => {
    const [q, k, v, g] = inputs();
    const whole = additiveRecurrence(q, k, v, g);
    for (const stop of [1, 64, 97, LENGTH - 1]) {
      const head = [q, k, v, g].map((x) => tokens(x, 0, stop));
      const tail = [q, k, v, g].map((x) => tokens(x, stop));
      const first = additiveRecurrence(head[0], head[1], head[2], head[3]);
      const second = additiveRecurrence(tail[0], tail[1], tail[2], tail[3], { initialState: first.state });
      expect(furthest(second.output, tokens(whole.output, stop))).toBeLessThan(2e-5);
      expect(furthest(second.state.s, whole.state.s)).toBeLessThan(2e-5);
      expect(furthest(second.state.logsum, whole.state.logsum)).toBeLessThan(1e-5);
    }
  });

  it.each(['cpu', 'ort'])(
    'gives tokens of logit -Infinity no weight, where no others came yet 0 (%s)',
    async (backend) => {
      await setBackend(backend);
      const all = inputs(70);
      const forgotten = tensor1d(Array.from({ length: 70 }, (_, t) => (t < 66 || t === 68 ? -Infinity : 0)));
      const [q, k, v, g] = [...all.slice(0, 3), add(all[3], reshape(forgotten, [70, 1]))];
      const { output, state } = additiveRecurrence(q, k, v, g);
      expect(max(abs(tokens(output, 0, 66))).dataSync()[0]).toBe(0);
      const kept = (x: Tensor): Tensor => gather(x, tensor1d([66, 67, 69], 'int32'), 2);
      const seen = additiveRecurrence(kept(q), kept(k), kept(v), kept(g));
      expect(furthest(kept(output), seen.output)).toBeLessThan(1e-5);
      expect(furthest(state.s, seen.state.s)).toBeLessThan(1e-5);
      // A state of forgotten tokens alone is none.
      const [head, tail] = [0, 66].map((from) => [q, k, v, g].map((x) => tokens(x, from, from === 0 ? 66 : -1)));
      const { state: empty } = additiveRecurrence(head[0], head[1], head[2], head[3]);
      const rest = additiveRecurrence(tail[0], tail[1], tail[2], tail[3], { initialState: empty });
      expect(furthest(rest.output, tokens(output, 66))).toBeLessThan(1e-5);
      const gradients = grads((q, k, v, g) => sum(additiveRecurrence(q, k, v, g).output))([q, k, v, g]);
      for (const gradient of gradients) expect(gradient.dataSync().every(Number.isFinite)).toBe(true);
    },
  );

  it('does not look ahead', () => {
    const [q, k, v, g] = inputs(70);
    const { output } = additiveRecurrence(q, k, v, g);
    const changed = (x: Tensor): Tensor => add(x, tokensFrom(66, x.shape));
    const other = additiveRecurrence(q, changed(k), changed(v), changed(g)).output;
    expect(furthest(tokens(output, 0, 66), tokens(other, 0, 66))).toBe(0);
    expect(furthest(tokens(output, 66), tokens(other, 66))).toBeGreaterThan(0.01);
  });

  it('has right gradients of both orders, state included, and leaks nothing', () => {
    const [q, k, v, g] = inputs(3).map((x) => slice(x, [0, 0, 0, 0], [1, 1, -1, 2]));
    const [s, logsum] = [random('s', [1, 1, 2, 2]), random('logsum', [1, 1, 2])];
    const f = (q: Tensor, k: Tensor, v: Tensor, g: Tensor, s: Tensor, logsum: Tensor): Tensor[] => {
      const { output, state } = additiveRecurrence(q, k, v, g, { initialState: { s, logsum } });
      return [output, state.s, state.logsum];
    };
    gradCheck((q, k, v, g, s, logsum) => f(q, k, v, g, s, logsum), [q, k, v, g, s, logsum]);
    expectNoLeak(() => f(q, k, v, g, s, logsum));
  }, 30_000);

  it('names shapes that do not fit', () => {
    const [q, k, v, g] = inputs(3);
    expect(() => additiveRecurrence(q, tokens(k, 1), v, g)).toThrow(ShapeError);
    const initialState = { s: zeros([2, 2, 3, 3]), logsum: zeros([2, 2, 3]) };
    expect(() => additiveRecurrence(q, k, v, g, { initialState })).toThrow(/\[2,2,3,4\].*not \[2,2,3,3\]/);
  });

  it('is the same under jit', async () => {
    await setBackend('ort');
    const [q, k, v, g] = inputs();
    const run = jit((q: Tensor, k: Tensor, v: Tensor, g: Tensor): Tensor => additiveRecurrence(q, k, v, g).output);
    expect(furthest(run(q, k, v, g), additiveRecurrence(q, k, v, g).output)).toBeLessThan(1e-5);
    run.dispose();
  });
});

/** Ones from token `from` on. */
const tokensFrom = (from: number, [, , length]: number[]): Tensor =>
  reshape(tensor1d(Array.from({ length }, (_, t) => (t < from ? 0 : 1))), [length, 1]);

const byToken = (x: Tensor): Tensor => transpose(x, [0, 2, 1, 3]);

describe('oneScanAttention', () => {
  it('is what the recurrence arrives at with the last of its tokens', () => {
    const [q, k, v] = inputs(70);
    const unit = ones(k.shape);
    const last = tokens(additiveRecurrence(silu(q), unit, v, k).output, 69);
    // The recurrence's weights exp(k) / sum exp(k) are the softmax.
    const whole = byToken(oneScanAttention(byToken(q), byToken(k), byToken(v)));
    expect(furthest(tokens(whole, 69), last)).toBeLessThan(1e-5);
  });

  it('does not care for the order of the tokens', () => {
    const [q, k, v] = inputs(9).map(byToken);
    const order = tensor1d(rng.fork('order').permutation(9), 'int32');
    const moved = oneScanAttention(q, gather(k, order, 1), gather(v, order, 1));
    expect(furthest(moved, oneScanAttention(q, k, v))).toBeLessThan(1e-6);
  });

  it('reads what the mask keeps alone, and 0 where it keeps nothing', () => {
    const [q, k, v] = inputs(4).map(byToken);
    const mask = tensor2d([
      [1, 0, 1, 1],
      [0, 0, 0, 0],
    ]);
    const out = oneScanAttention(q, k, v, { mask });
    const kept = (x: Tensor): Tensor => gather(slice(x, [0, 0, 0, 0], [1, -1, -1, -1]), [0, 2, 3], 1);
    const first = oneScanAttention(slice(q, [0, 0, 0, 0], [1, -1, -1, -1]), kept(k), kept(v));
    expect(furthest(slice(out, [0, 0, 0, 0], [1, -1, -1, -1]), first)).toBeLessThan(1e-6);
    expect(max(abs(slice(out, [1, 0, 0, 0]))).dataSync()[0]).toBe(0);
    gradCheck(
      (q, k, v) => oneScanAttention(q, k, v, { mask }),
      [q, k, v].map((x) => slice(x, [0, 0, 0, 0], [-1, -1, 1, 2])),
    );
    expectNoLeak(() => oneScanAttention(q, k, v, { mask }));
    expect(() => oneScanAttention(q, k, v, { mask: ones([2, 3]) })).toThrow(/mask \[b, n\].*\[2,3\]/);
  });
});

describe('linearAttention', () => {
  const phi = (x: number): number => (x > 0 ? x + 1 : Math.exp(x));

  it.each([true, false])('is what its definition says, causal: %s', (causal) => {
    const [q, k, v] = inputs();
    const [qs, ks, vs] = [q, k, v].map((x) => x.arraySync() as number[][][][]);
    const expected = qs.map((heads, b) =>
      heads.map((rows, h) =>
        rows.map((row, t) => {
          const seen = ks[b][h].slice(0, causal ? t + 1 : LENGTH);
          const weights = seen.map((key) => key.reduce((total, value, c) => total + phi(row[c]) * phi(value), 0));
          const total = weights.reduce((a, b) => a + b);
          return vs[b][h][t].map(
            (_, e) => weights.reduce((out, weight, s) => out + weight * vs[b][h][s][e], 0) / total,
          );
        }),
      ),
    );
    expectClose(linearAttention(q, k, v, { causal }), expected);
  });

  it('hides what the mask hides, has right gradients and leaks nothing', () => {
    const [q, k, v] = inputs(4).map((x) => slice(x, [0, 0, 0, 0], [-1, 1, -1, 2]));
    const mask = tensor2d([
      [1, 1, 0, 1],
      [0, 1, 1, 1],
    ]);
    for (const causal of [true, false]) {
      const out = linearAttention(q, k, v, { causal, mask });
      const hidden = linearAttention(q, k, add(v, mul(sub(1, reshape(mask, [2, 1, 4, 1])), 7)), { causal, mask });
      expect(furthest(out, hidden)).toBe(0);
      gradCheck((q, k, v) => linearAttention(q, k, v, { causal, mask, eps: 0.1 }), [q, k, v]);
      expectNoLeak(() => linearAttention(q, k, v, { causal, mask }));
    }
    expect(mean(abs(linearAttention(q, k, v, { mask }))).dataSync()[0]).toBeGreaterThan(0.01);
    expect(() => linearAttention(tokens(q, 1), k, v, { causal: true })).toThrow(ShapeError);
    expect(linearAttention(tokens(q, 1), k, v).shape).toEqual([2, 1, 3, 2]);
  });
});
