import { max, type PositionEncoding, Rng, sqrt, square, sum, tensor1d, tidy } from '@ashlar/tensor';
import { defineClaim, type Measured, verdictOf } from '../../../tooling/claims/src/define-claim.ts';
import { Clex, Rope } from '../src/index.ts';
import { accuracy, HEAD_DIM, NeedleModel, TRAINED, trainNeedle } from '../test/needle-model.ts';

const LENGTHS = [1, 2, 3, 4, 8];
const FACTOR = 4;
const STEPS = 500;

export default defineClaim({
  slug: 'clex',
  title: 'CLEX: rotary frequencies as a continuous function of the length',
  source: 'Chen et al. 2024 (ICLR), arXiv 2310.16450',
  statement:
    'A RoPE decoder (2 layers, width 32) finds a needle among 16 to 32 random tokens. 500 more steps on at most 32 tokens ' +
    'teach CLEX to find it among more: right at the trained length (x1) in at least 99%, at x2 in at least 97%, at x3 in ' +
    'at least 30 points more than after 500 steps with plain RoPE, at x8 in at least 30 points more than with position ' +
    'interpolation. Untrained CLEX is above the model that was not fine-tuned at x2 and x3. Spreading positions at random ' +
    'with fixed frequencies is a strong baseline at this size.',
  baselines: [
    'no fine-tuning',
    'plain RoPE, fine-tuned',
    'position interpolation, fine-tuned',
    'random positions, fine-tuned',
    'CLEX, untrained',
  ],
  seeds: [0, 1, 2, 3, 4, 5],

  async run({ seed, log }) {
    const rng = new Rng(`clex ${seed}`);
    const results: Record<string, number> = {};
    const record = (row: string, model: NeedleModel): void => {
      for (const times of LENGTHS) {
        const length = times * TRAINED;
        results[`${row}/x${times} %`] =
          100 * accuracy(model, { count: 300, length, rng: rng.fork('test').fork(times) });
      }
      log(`${row}: ${LENGTHS.map((times) => results[`${row}/x${times} %`].toFixed(0)).join(' ')}`);
    };
    const rope = new Rope({ headDim: HEAD_DIM });
    const base = new NeedleModel(rope, rng.fork('model'));
    trainNeedle(base, { steps: STEPS, peak: 3e-3, rng: rng.fork('pretrain') });
    record('no fine-tuning', base);

    const variant = (encoding: PositionEncoding): NeedleModel => base.with(encoding, rng.fork('variant'));
    const tune = (model: NeedleModel, positions?: Parameters<typeof trainNeedle>[1]['positions']): void =>
      trainNeedle(model, { steps: STEPS, peak: 2e-3, rng: rng.fork('tune'), positions });

    const plain = variant(rope);
    tune(plain);
    record('plain RoPE, fine-tuned', plain);

    const interpolated = variant(new Rope({ headDim: HEAD_DIM, scaling: { rope_type: 'linear', factor: FACTOR } }));
    tune(interpolated);
    record('position interpolation, fine-tuned', interpolated);

    const spread = variant(rope);
    tune(spread, (length, own) =>
      tensor1d(Float32Array.from(own.choice(FACTOR * TRAINED, length, { replace: false }).sort())),
    );
    record('random positions, fine-tuned', spread);

    const encoding = new Clex({
      headDim: HEAD_DIM,
      originalLength: TRAINED,
      maxFactor: FACTOR,
      stepSize: 0.25,
      rng: rng.fork('clex'),
    });
    const clex = variant(encoding);
    record('CLEX, untrained', clex);
    tune(clex, (length, own) => {
      encoding.factor = own.integer(1, FACTOR + 1);
      return encoding.trainingPositions(length, encoding.factor, own);
    });
    encoding.factor = undefined;
    record('CLEX', clex);
    results['CLEX/norm of down'] = tidy(() => sqrt(sum(square(encoding.down.stored))).dataSync()[0]);
    results['CLEX/largest frequency at x4'] = tidy(
      () => max(encoding.frequenciesForLength(FACTOR * TRAINED)).dataSync()[0],
    );
    for (const model of [base, plain, interpolated, spread, clex]) model.dispose();
    return results;
  },

  verdict(results: Record<string, Measured>) {
    const at = (row: string, times: number): number => results[`${row}/x${times} %`].mean;
    const checks: [string, boolean][] = [
      ['CLEX at least 99% at x1', at('CLEX', 1) >= 99],
      ['CLEX at least 97% at x2', at('CLEX', 2) >= 97],
      ['CLEX 30 points above plain fine-tuning at x3', at('CLEX', 3) >= at('plain RoPE, fine-tuned', 3) + 30],
      ['CLEX 30 points above interpolation at x8', at('CLEX', 8) >= at('position interpolation, fine-tuned', 8) + 30],
      [
        'untrained CLEX above no fine-tuning at x2 and x3',
        [2, 3].every((times) => at('CLEX, untrained', times) > at('no fine-tuning', times)),
      ],
      ['down has moved', Math.min(...results['CLEX/norm of down'].values) > 0],
    ];
    return verdictOf(checks);
  },
});
