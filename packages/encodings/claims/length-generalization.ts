import { attend } from '@ashlar/nn';
import { concat, eye, mul, ones, range, reshape, type Tensor, tidy, zeros } from '@ashlar/tensor';
import { lengthGeneralization, summarizeLengths } from '../../../apps/language/src/lengths.ts';
import { defineClaim, type Measured, verdictOf } from '../../../tooling/claims/src/define-claim.ts';
import { Nope } from '../src/index.ts';

const TRAINED = 10;
const ROWS: Readonly<Record<string, string>> = {
  none: 'NoPE',
  rope: 'Rotary',
  alibi: 'ALiBi',
  t5: 'T5 relative bias',
  sinusoidal: 'sinusoidal APE',
};

export default defineClaim({
  slug: 'length-generalization',
  title: 'Length generalization: five position encodings on problems longer than the trained ones',
  source: 'Kazemnejad et al. 2023 (NeurIPS), arXiv 2305.19466',
  statement:
    'Decoders (2 layers, width 32, 4 heads) learn in 800 steps to write one of 8 symbols as often as it stands in the ' +
    'prompt, 1 to 10 times, and are asked for 11 to 20 (100 problems of each length, exact match of the whole target). ' +
    'Without position encoding at least 70% are right, at least 25 points more than with any of the others; with ' +
    'sinusoids at most 5%; ALiBi and rotary are between. A uniform head of NoPE gives 1/t, and two channels that hold the ' +
    'position give j - t, to 1e-5.',
  baselines: ['Rotary', 'ALiBi', 'T5 relative bias', 'sinusoidal APE'],
  seeds: [0, 1, 2],

  async run({ seed, log }) {
    const results: Record<string, number> = {};
    const encodings = Object.keys(ROWS);
    for await (const event of lengthGeneralization({ encodings, trainLength: TRAINED, seeds: [seed] })) {
      if (event.type !== 'measured') continue;
      const row = ROWS[event.encoding];
      const [{ seen, unseen, accuracy }] = summarizeLengths([event], TRAINED);
      results[`${row}/1 to 10 %`] = 100 * seen;
      results[`${row}/11 to 20 %`] = 100 * unseen;
      results[`${row}/20 %`] = 100 * (accuracy.at(-1)?.accuracy ?? 0);
      log(`${row}: seen ${(100 * seen).toFixed(0)}, unseen ${(100 * unseen).toFixed(0)}`);
    }
    results['NoPE by construction/error of 1/t'] = errorOfAbsolute(2 * TRAINED);
    results['NoPE by construction/error of j - t'] = errorOfRelative(2 * TRAINED);
    return results;
  },

  verdict(results: Record<string, Measured>) {
    const unseen = (row: string): number => results[`${row}/11 to 20 %`].mean;
    const others = Object.values(ROWS).filter((row) => row !== 'NoPE');
    const between = (row: string): boolean => unseen('sinusoidal APE') < unseen(row) && unseen(row) < unseen('NoPE');
    return verdictOf([
      ['NoPE at least 70%', unseen('NoPE') >= 70],
      ...others.map((row) => [`NoPE 25 points above ${row}`, unseen('NoPE') >= unseen(row) + 25] as const),
      ['sinusoidal APE at most 5%', unseen('sinusoidal APE') <= 5],
      ['ALiBi between', between('ALiBi')],
      ['Rotary between', between('Rotary')],
      ['1/t to 1e-5', Math.max(...results['NoPE by construction/error of 1/t'].values) <= 1e-5],
      ['j - t to 1e-5', Math.max(...results['NoPE by construction/error of j - t'].values) <= 1e-5],
    ]);
  },
});

/** Causal attention of one head without position encoding; `[seq, channels]` each. */
function head(q: Tensor, k: Tensor, v: Tensor): number[][] {
  const [queries, keys, values] = [q, k, v].map((x) => reshape(x, [1, 1, ...x.shape]));
  const mixed = attend(queries, keys, values, { encoding: new Nope(), causal: true, scale: 1 });
  return reshape(mixed, v.shape).arraySync() as number[][];
}

/** Equal logits, and a value that marks the first token: token `t = 1, 2 …` gets 1 / t. */
function errorOfAbsolute(seq: number): number {
  return tidy(() => {
    const first = concat([ones([1, 1]), zeros([seq - 1, 1])], 0);
    const got = head(zeros([seq, 1]), zeros([seq, 1]), first);
    return Math.max(...got.map(([value], i) => Math.abs(value - 1 / (i + 1))));
  });
}

/** `q_t = (1, -t)` and `k_j = (j, 1)`: the head attends by `softmax_j(j - t)`. */
function errorOfRelative(seq: number): number {
  return tidy(() => {
    const place = reshape(range(0, seq, 1, 'float32'), [seq, 1]);
    const one = ones([seq, 1]);
    // Attention to unit vectors shows the attention itself.
    const got = head(concat([one, mul(-1, place)], 1), concat([place, one], 1), eye(seq));
    const errors = got.flatMap((row, t) => {
      const weights = row.map((_, j) => (j <= t ? Math.exp(j - t) : 0));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      return row.map((value, j) => Math.abs(value - weights[j] / total));
    });
    return Math.max(...errors);
  });
}
