import type { PositionEncoding } from '@ashlar/tensor';
import { abs, max, Rng, slice, sub, tidy } from '@ashlar/tensor';
import { defineClaim, type Measured, verdictOf } from '../../../tooling/claims/src/define-claim.ts';
import { needleTask } from '../../data/src/index.ts';
import { Dpe, detectScales, ReRope, Rope, SelfExtend } from '../src/index.ts';
import { accuracy, HEAD_DIM, NeedleModel, TRAINED, trainNeedle } from '../test/needle-model.ts';

const LENGTHS = [64, 128, 256];
const WINDOW = 8;
const GROUPS = 4;
const CANDIDATES = [1, 2, 4, 8, 16, 32];

export default defineClaim({
  slug: 'dpe',
  title: 'DPE: longer contexts without training, by dimension',
  source: 'Lu et al. 2025 (COLM), arXiv 2504.18857',
  statement:
    'A RoPE decoder (2 layers, width 32) trained to find a needle among 16 to 32 random tokens is asked at 64, 128 and 256 ' +
    'without further training (400 sequences, window 8, scales of 4 groups of pairs detected on 200 others). At 128 DPE is ' +
    'right in at least 97%, at most 1 point below Self-Extend and not below YaRN; interpolation and NTK are at least 10 ' +
    'points above plain RoPE. At 256 DPE is at least 3 points above Self-Extend and ReRoPE and 30 above YaRN. Within the ' +
    'window all methods are plain RoPE to 1e-5, and DPE with equal scales is Self-Extend.',
  baselines: ['plain RoPE', 'position interpolation', 'NTK-aware', 'YaRN', 'Self-Extend', 'ReRoPE'],
  seeds: [0, 1, 2],

  async run({ seed, log }) {
    const rng = new Rng(`dpe ${seed}`);
    const results: Record<string, number> = {};
    const headDim = HEAD_DIM;
    const base = new NeedleModel(new Rope({ headDim }), rng.fork('model'));
    trainNeedle(base, { steps: 1500, peak: 3e-3, rng: rng.fork('train') });
    results['plain RoPE/32 %'] = 100 * accuracy(base, { count: 400, length: TRAINED, rng: rng.fork('32') });
    log(`at 32: ${results['plain RoPE/32 %'].toFixed(1)}%`);

    const measure = (encoding: PositionEncoding, count: number, length: number, name: string): number => {
      const model = base.with(encoding, rng);
      const percent = 100 * accuracy(model, { count, length, rng: rng.fork(`${name} ${length}`) });
      model.dispose();
      return percent;
    };
    for (const length of LENGTHS) {
      const factor = length / TRAINED;
      const scaled = (rope_type: string): Rope =>
        new Rope({ headDim, maxPositions: TRAINED, scaling: { rope_type, factor } });
      const dpe = (scales: readonly number[]): Dpe => new Dpe({ headDim, window: WINDOW, scales });
      const scales = await detectScales((candidate) => measure(dpe(candidate), 200, length, 'detect'), {
        groups: GROUPS,
        candidates: CANDIDATES,
        fallback: 2 * factor,
      });
      const rows: [string, PositionEncoding][] = [
        ['plain RoPE', new Rope({ headDim })],
        ['position interpolation', scaled('linear')],
        ['NTK-aware', scaled('ntk')],
        ['YaRN', scaled('yarn')],
        ['Self-Extend', new SelfExtend({ headDim, window: WINDOW, group: 2 * factor })],
        ['ReRoPE', new ReRope({ headDim, window: WINDOW })],
        ['DPE', dpe(scales)],
      ];
      for (const [row, encoding] of rows) results[`${row}/${length} %`] = measure(encoding, 400, length, 'test');
      for (const [group, scale] of scales.entries()) results[`DPE/scale ${group + 1} at ${length}`] = scale;
      log(
        `${length}: ${rows.map(([row]) => `${row} ${results[`${row}/${length} %`].toFixed(0)}`).join(', ')}; [${scales}]`,
      );
    }

    const { ids, labels } = needleTask({ count: 8, length: 64 }, rng.fork('exact'));
    const furthest = (a: PositionEncoding, b: PositionEncoding, length: number): number => {
      const models = [base.with(a, rng).eval(), base.with(b, rng).eval()];
      const value = tidy(() => {
        const own = slice(ids, [0, 64 - length], [8, length]);
        return max(abs(sub(models[0].apply(own), models[1].apply(own)))).dataSync()[0];
      });
      for (const model of models) model.dispose();
      return value;
    };
    const plain = new Rope({ headDim });
    results['DPE/from RoPE in the window'] = Math.max(
      furthest(new Dpe({ headDim, window: 32, scales: [8, 4, 2, 16] }), plain, 32),
      furthest(new SelfExtend({ headDim, window: 32, group: 4 }), plain, 32),
      furthest(new ReRope({ headDim, window: 32 }), plain, 32),
      furthest(new Dpe({ headDim, window: 8, scales: [1, 1, 1, 1] }), plain, 32),
    );
    results['DPE/from Self-Extend at equal scales'] = furthest(
      new Dpe({ headDim, window: 8, scales: [4, 4, 4, 4] }),
      new SelfExtend({ headDim, window: 8, group: 4 }),
      64,
    );
    ids.dispose();
    labels.dispose();
    base.dispose();
    return results;
  },

  verdict(results: Record<string, Measured>) {
    const at = (row: string, length: number): number => results[`${row}/${length} %`].mean;
    const worst = (name: string): number => Math.max(...results[`DPE/${name}`].values);
    const checks: [string, boolean][] = [
      ['DPE at least 97% at 128', at('DPE', 128) >= 97],
      ['DPE at most 1 point below Self-Extend at 128', at('DPE', 128) >= at('Self-Extend', 128) - 1],
      ['DPE not below YaRN at 128', at('DPE', 128) >= at('YaRN', 128)],
      [
        'interpolation and NTK 10 points above plain at 128',
        ['position interpolation', 'NTK-aware'].every((row) => at(row, 128) >= at('plain RoPE', 128) + 10),
      ],
      [
        'DPE 3 points above Self-Extend and ReRoPE at 256',
        ['Self-Extend', 'ReRoPE'].every((row) => at('DPE', 256) >= at(row, 256) + 3),
      ],
      ['DPE 30 points above YaRN at 256', at('DPE', 256) >= at('YaRN', 256) + 30],
      ['plain RoPE within the window to 1e-5', worst('from RoPE in the window') <= 1e-5],
      ['equal scales are Self-Extend to 1e-5', worst('from Self-Extend at equal scales') <= 1e-5],
    ];
    return verdictOf(checks);
  },
});
