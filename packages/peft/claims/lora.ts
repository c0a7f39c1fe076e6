import { Rng, type Tensor } from '@ashlar/tensor';
import { defineClaim, type Measured, verdictOf } from '../../../tooling/claims/src/define-claim.ts';
import { turned } from '../../../tooling/claims/src/digits.ts';
import { attach, type LoraConfig, lora } from '../src/index.ts';
import { accuracy, type Examples, fit, Mlp, pick, splitDigits } from '../test/digits.ts';

const TRAIN = 1200;
const BASE_STEPS = 600;
const LABELS = 200;
const STEPS = 300;
/** Of AdamW, in every run. */
const WEIGHT_DECAY = 0.01;

const lastTen = (losses: readonly number[]): number => losses.slice(-10).reduce((sum, loss) => sum + loss, 0) / 10;

const ACCURACY_RANKS = [1, 2, 4, 8, 16];
const RSLORA_RANKS = [4, 16, 64, 256];

export default defineClaim({
  slug: 'lora',
  title: 'LoRA: low-rank adapters match full fine-tuning with a fraction of the weights',
  source: 'Hu et al. 2021, arXiv 2106.09685; DoRA arXiv 2402.09353; PiSSA arXiv 2404.02948; rsLoRA arXiv 2312.03732',
  statement:
    'An MLP 64-256-256-10 trained on 1,200 upright 8x8 digits learns digits turned by 90 degrees from 200 labels in 300 steps. ' +
    'LoRA r=8 (8% of the weights, head frozen) comes within 2 points of full fine-tuning and at least 5 above training the ' +
    'head alone; accuracy grows with r; DoRA r=1 beats LoRA r=1. After 100 steps at a small rate PiSSA has a lower loss ' +
    'than LoRA (r = 4, 16); rsLoRA improves with r at fixed alpha while LoRA stays flat.',
  baselines: ['no adaptation', 'head only', 'full fine-tuning'],
  seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],

  async run({ seed, log }) {
    const rng = new Rng(seed);
    const { train, test } = splitDigits(TRAIN, rng.fork('split'));
    const turn = ({ pictures, labels }: Examples): Examples => ({ pictures: pictures.map(turned), labels });
    const few = turn(
      pick(
        train,
        Array.from({ length: LABELS }, (_, i) => i),
      ),
    );
    const turnedTest = turn(test);

    const base = new Mlp(256, rng.fork('model'));
    fit(base, train, { weightDecay: WEIGHT_DECAY, steps: BASE_STEPS, learningRate: 1e-3, rng: rng.fork('base') });
    log(`base: ${accuracy(base, test).toFixed(1)}% on upright digits`);
    const results: Record<string, number> = { 'no adaptation/accuracy %': accuracy(base, turnedTest) };
    const weights = new Map([...base.namedParameters()].map(([name, p]) => [name, p.stored.clone()]));
    const restore = (): void => {
      for (const [name, parameter] of base.namedParameters()) {
        parameter.assign((weights.get(name) as Tensor).clone());
        parameter.requiresGrad = true;
      }
    };
    const measure = (row: string): void => {
      results[`${row}/accuracy %`] = accuracy(base, turnedTest);
      log(`${row}: ${results[`${row}/accuracy %`].toFixed(1)}%`);
    };
    const count = (): number => [...base.trainableParameters().values()].reduce((n, { size }) => n + size, 0);

    base.freeze().head.unfreeze();
    results['head only/trained numbers'] = count();
    fit(base, few, { weightDecay: WEIGHT_DECAY, steps: STEPS, learningRate: 1e-2, rng: rng.fork('head') });
    measure('head only');
    restore();
    results['full fine-tuning/trained numbers'] = count();
    fit(base, few, { weightDecay: WEIGHT_DECAY, steps: STEPS, learningRate: 1e-3, rng: rng.fork('full') });
    measure('full fine-tuning');
    restore();

    const adapt = (config: LoraConfig, steps: number, learningRate: number, then: (losses: number[]) => void): void => {
      const handle = attach(base, lora({ targetModules: ['fc1', 'fc2'], ...config }), { rng: rng.fork('adapter') });
      then(fit(base, few, { weightDecay: WEIGHT_DECAY, steps, learningRate, rng: rng.fork('adapt') }));
      handle.unload();
      restore();
    };
    const adapters = [
      ...ACCURACY_RANKS.map((r) => ({ name: 'LoRA', r, useDora: false })),
      ...[1, 4].map((r) => ({ name: 'DoRA', r, useDora: true })),
    ];
    for (const { name, r, useDora } of adapters) {
      adapt({ r, loraAlpha: 2 * r, useDora }, STEPS, 5e-3, () => {
        results[`${name} r=${r}/trained numbers`] = count();
        measure(`${name} r=${r}`);
      });
    }
    for (const r of [4, 16]) {
      for (const initLoraWeights of ['pissa', true] as const) {
        adapt({ r, loraAlpha: r, initLoraWeights }, 100, 1e-3, (losses) => {
          const name = initLoraWeights === true ? 'LoRA' : 'PiSSA';
          results[`${name} r=${r} alpha=r/loss after 100 steps`] = lastTen(losses);
        });
      }
    }
    for (const r of RSLORA_RANKS) {
      for (const useRslora of [true, false]) {
        adapt({ r, loraAlpha: 8, useRslora }, 100, 1e-3, (losses) => {
          results[`${useRslora ? 'rsLoRA' : 'LoRA'} r=${r} alpha=8/loss after 100 steps`] = lastTen(losses);
        });
      }
    }
    base.dispose();
    for (const weight of weights.values()) weight.dispose();
    return results;
  },

  verdict(results: Record<string, Measured>) {
    const accuracyOf = (row: string): number => results[`${row}/accuracy %`].mean;
    const lossOf = (row: string): number => results[`${row}/loss after 100 steps`].mean;
    const ranks = ACCURACY_RANKS.map((r) => accuracyOf(`LoRA r=${r}`));
    const rs = RSLORA_RANKS.map((r) => lossOf(`rsLoRA r=${r} alpha=8`));
    const plain = RSLORA_RANKS.map((r) => lossOf(`LoRA r=${r} alpha=8`));
    const checks: [string, boolean][] = [
      ['LoRA r=8 within 2 points of full fine-tuning', accuracyOf('LoRA r=8') >= accuracyOf('full fine-tuning') - 2],
      ['LoRA r=8 at least 5 points above head only', accuracyOf('LoRA r=8') >= accuracyOf('head only') + 5],
      ['accuracy grows with r (1 point of noise)', ranks.every((a, i) => i === 0 || a >= ranks[i - 1] - 1)],
      ['DoRA r=1 above LoRA r=1', accuracyOf('DoRA r=1') > accuracyOf('LoRA r=1')],
      ...[4, 16].map((r): [string, boolean] => [
        `PiSSA below LoRA in loss at r=${r}`,
        lossOf(`PiSSA r=${r} alpha=r`) < lossOf(`LoRA r=${r} alpha=r`),
      ]),
      ['rsLoRA improves with every r', rs.every((loss, i) => i === 0 || loss < rs[i - 1])],
      ['LoRA flat in r at alpha = 8 (within 10%)', Math.max(...plain) <= 1.1 * Math.min(...plain)],
    ];
    return verdictOf(checks);
  },
});
