import { type CausalLM, createModel } from '@ashlar/models';
import { adamw, linear, Optimizer, type Schedule, warmupCosine } from '@ashlar/optim';
import {
  abs,
  argMax,
  cast,
  crossEntropy,
  disposeMap,
  equal,
  jit,
  lossAndGrads,
  max,
  mean,
  moduleState,
  Rng,
  reshape,
  sub,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { defineClaim, type Measured, verdictOf } from '../../../tooling/claims/src/define-claim.ts';
import { attach, type Head, lofit, lora, selectHeads } from '../src/index.ts';

/** Tokens: digits, then tasks, then the query. */
const TASKS = ['FIRST', 'LAST', 'MAX', 'MIN', 'NONE'] as const;
type Task = (typeof TASKS)[number];
const QUERY = 10 + TASKS.length;
const LAYERS = 3;
const HEADS = 4;
const DRAWS = 4;
const STEPS = 100;
const RATE = 5e-2;
const LORA_RATES = [5e-3, 2e-2, 5e-2];
const TARGETS = ['MAX', 'MIN'] as const;

const ANSWERS: Readonly<Record<Task, (digits: readonly number[]) => number>> = {
  FIRST: (digits) => digits[0],
  LAST: (digits) => digits[4],
  MAX: (digits) => Math.max(...digits),
  MIN: (digits) => Math.min(...digits),
  NONE: (digits) => digits[0],
};

interface Examples {
  ids: Tensor;
  labels: Tensor;
}

const dispose = ({ ids, labels }: Examples): void => {
  ids.dispose();
  labels.dispose();
};

/** Task token, five digits, query; the answer is that of `answer` in place of the task. */
function examples(count: number, rng: Rng, options: { task?: Task; answer?: Task } = {}): Examples {
  const values = rng.integers([count, 6], 0, 10);
  const drawn = values.arraySync() as number[][];
  values.dispose();
  const rows = drawn.map(([task, ...digits]) => ({ task: options.task ?? TASKS[task % TASKS.length], digits }));
  const ids = rows.map(({ task, digits }) => [10 + TASKS.indexOf(task), ...digits, QUERY]);
  const labels = rows.map(({ task, digits }) => ANSWERS[options.answer ?? task](digits));
  return { ids: tensor2d(ids, undefined, 'int32'), labels: tensor1d(labels, 'int32') };
}

const answers = (model: CausalLM, ids: Tensor): Tensor => {
  const logits = model.apply(ids, { lastOnly: true });
  return reshape(logits, [ids.shape[0], -1]);
};

const accuracy = (model: CausalLM, { ids, labels }: Examples): number =>
  tidy(() => 100 * mean(cast(equal(argMax(answers(model, ids), -1), labels), 'float32')).dataSync()[0]);

/** Trains what is trainable; `next` makes the batch of a step, of which this disposes if it is `owned`. */
function fit(
  model: CausalLM,
  options: { steps: number; learningRate: Schedule; next(step: number): Examples; owned?: boolean },
): void {
  const parameters = model.trainableParameters();
  const optimizer = new Optimizer(parameters, adamw({ learningRate: options.learningRate, weightDecay: 0 }));
  const step = jit(
    (ids: Tensor, labels: Tensor): Tensor => {
      const { loss, grads } = lossAndGrads(() => crossEntropy(answers(model, ids), labels), parameters);
      optimizer.step(grads);
      disposeMap(grads);
      return loss;
    },
    { state: [moduleState(model), optimizer] },
  );
  for (let i = 0; i < options.steps; i++) {
    const batch = options.next(i);
    step(batch.ids, batch.labels).dispose();
    if (options.owned) dispose(batch);
  }
  step.dispose();
  optimizer.dispose();
}

const decay = (rate: number): Schedule => linear({ init: rate, end: 0, steps: STEPS });

const ALL_HEADS: Head[] = Array.from({ length: LAYERS * HEADS }, (_, i) => [Math.floor(i / HEADS), i % HEADS]);

const average = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

export default defineClaim({
  slug: 'lofit',
  title: 'LoFiT: offsets on a few chosen heads elicit a skill',
  source: 'Yin, Ye and Durrett 2024, arXiv 2406.01563; mean differences: ITI arXiv 2306.03341, RepE arXiv 2310.01405',
  statement:
    'A decoder (3 layers of 4 heads, width 32) knows FIRST, LAST, MAX and MIN of five digits and answers NONE as FIRST. ' +
    'From 100 examples NONE shall mean MAX, or MIN. Offsets on the 4 heads of the longest scalings (32 numbers) beat those ' +
    'on the 4 of the shortest by at least 25 points and on 4 random ones by at least 5 (means over targets and seeds, 4 ' +
    'draws), and come within 10 points of LoRA r=1 on the queries, keys and values (384 numbers, the best of three rates). ' +
    'Merged into biases they compute the same to 1e-5. The limit: NONE as LAST is out of reach of offsets on all heads, ' +
    'not of LoRA.',
  baselines: [
    'before',
    'random 4 heads',
    'lowest 4 heads',
    'random 2 heads',
    'all heads',
    'mean difference, 4 heads',
    'LoRA r=1',
  ],
  seeds: [0, 1, 2],

  async run({ seed, log }) {
    const rng = new Rng(seed);
    const config = {
      model_type: 'gpt2',
      vocab_size: QUERY + 1,
      n_embd: 32,
      n_layer: LAYERS,
      n_head: HEADS,
      n_inner: 64,
      n_positions: 7,
      initializer_range: 0.1,
      resid_pdrop: 0,
      embd_pdrop: 0,
      attn_pdrop: 0,
      tie_word_embeddings: false,
    };
    const model = createModel(config, { rng: rng.fork('model') });
    fit(model, {
      steps: 900,
      learningRate: warmupCosine({ peak: 3e-3, warmupSteps: 20, totalSteps: 900, end: 0 }),
      next: (step) => examples(128, rng.fork('pretrain').fork(step)),
      owned: true,
    });
    const all = examples(1000, rng.fork('all'));
    log(`pretrained: ${accuracy(model, all).toFixed(1)}% on all tasks`);
    const results: Record<string, number> = { 'before/all tasks %': accuracy(model, all) };
    dispose(all);

    for (const target of [...TARGETS, 'LAST'] as const) {
      const train = examples(100, rng.fork(target).fork('train'), { task: 'NONE', answer: target });
      const test = examples(1000, rng.fork(target).fork('test'), { task: 'NONE', answer: target });
      const record = (row: string, percents: readonly number[], numbers?: number): void => {
        results[`${row}/${target} %`] = average(percents);
        if (numbers !== undefined) results[`${row}/trained numbers`] = numbers;
        log(`${target}: ${row}: ${percents.map((p) => p.toFixed(1)).join(', ')}%`);
      };
      const offsets = (heads: readonly Head[], draw: number): number => {
        const handle = attach(model, lofit({ heads }), { rng: rng.fork('offsets').fork(draw) });
        fit(model, { steps: STEPS, learningRate: decay(RATE), next: () => train });
        const percent = accuracy(model, test);
        const hooked = tidy(() => model.apply(test.ids));
        handle.merge();
        const merged = tidy(() => model.apply(test.ids));
        const far = tidy(() => max(abs(sub(hooked, merged))).dataSync()[0] / max(abs(hooked)).dataSync()[0]);
        results['all heads/merged - hooked'] = Math.max(results['all heads/merged - hooked'] ?? 0, far);
        hooked.dispose();
        merged.dispose();
        handle.unload();
        return percent;
      };
      const withLora = (rate: number): number => {
        const handle = attach(model, lora({ r: 1, loraAlpha: 2, targetModules: ['c_attn'] }), {
          rng: rng.fork('lora'),
        });
        fit(model, { steps: STEPS, learningRate: decay(rate), next: () => train });
        const percent = accuracy(model, test);
        handle.unload();
        return percent;
      };
      record('before', [accuracy(model, test)]);
      record('all heads', [offsets(ALL_HEADS, 0)], 96);
      record('LoRA r=1', [Math.max(...LORA_RATES.map(withLora))], 384);
      if (target !== 'LAST') {
        const { scores } = selectHeads(model, {
          loss: ([ids, labels]) => crossEntropy(answers(model, ids), labels),
          batches: Array.from({ length: STEPS }, () => [train.ids, train.labels] as const),
          steps: STEPS,
          learningRate: RATE,
          l1Lambda: 1e-3,
          rng: rng.fork(target).fork('selection'),
        });
        const ranked = scores.sort((a, b) => b.score - a.score).map(({ head }) => head);
        log(`${target}: heads by score: ${ranked.join(' ')}`);
        const drawn = (count: number): number[] =>
          Array.from({ length: DRAWS }, (_, draw) => {
            const order = rng.fork(target).fork(`draw ${count}`).fork(draw).permutation(ALL_HEADS.length);
            const heads = Array.from(order.slice(0, count), (i) => ALL_HEADS[i]);
            return offsets(heads, draw);
          });
        record('LoFiT 4 heads', [offsets(ranked.slice(0, 4), 0)], 32);
        record('random 4 heads', drawn(4), 32);
        record('lowest 4 heads', [offsets(ranked.slice(-4), 0)], 32);
        record('LoFiT 2 heads', [offsets(ranked.slice(0, 2), 0)], 16);
        record('random 2 heads', drawn(2), 16);
        record('mean difference, 4 heads', [meanDifference(model, ranked.slice(0, 4), target, test, rng)], 0);
      }
      dispose(train);
      dispose(test);
    }
    model.dispose();
    return results;
  },

  verdict(results: Record<string, Measured>) {
    const percent = (row: string): number => average(TARGETS.map((target) => results[`${row}/${target} %`].mean));
    const checks: [string, boolean][] = [
      [
        '4 chosen heads at least 25 points above the lowest',
        percent('LoFiT 4 heads') >= percent('lowest 4 heads') + 25,
      ],
      ['4 chosen heads at least 5 points above random', percent('LoFiT 4 heads') >= percent('random 4 heads') + 5],
      ['4 chosen heads within 10 points of LoRA', percent('LoFiT 4 heads') >= percent('LoRA r=1') - 10],
      ['merged is hooked to 1e-5', Math.max(...results['all heads/merged - hooked'].values) <= 1e-5],
      [
        'LAST: all heads at least 25 points below LoRA',
        results['all heads/LAST %'].mean <= results['LoRA r=1/LAST %'].mean - 25,
      ],
    ];
    return verdictOf(checks);
  },
});

/**
 * Offsets that are not trained: the difference of the heads' outputs between prompts that say the target and prompts that
 * say NONE, in both scalings, with the strength that the test set likes best.
 */
function meanDifference(model: CausalLM, heads: readonly Head[], target: Task, test: Examples, rng: Rng): number {
  const prompts = (['NONE', target] as const).map((task) => examples(100, rng.fork(target).fork('train'), { task }));
  const handle = attach(model, lofit({ heads }));
  const [none, wanted] = prompts.map(
    ({ ids }) =>
      () =>
        model.apply(ids).dispose(),
  );
  const percents = (['difference', 'std'] as const).flatMap((scaling) =>
    [0.5, 1, 2, 4, 8].map((strength) => {
      handle.setMeanDifference(wanted, none, { strength, scaling });
      return accuracy(model, test);
    }),
  );
  handle.unload();
  for (const batch of prompts) dispose(batch);
  return Math.max(...percents);
}
