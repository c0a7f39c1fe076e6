import { adamw, linear, Optimizer } from '@ashlar/optim';
import {
  type AnyModule,
  add,
  ConfigError,
  disposeMap,
  jit,
  lossAndGrads,
  moduleState,
  mul,
  NumericsError,
  type Rng,
  type Scalar,
  sign,
  stopGradient,
  sum,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { isRank, refuse } from '../check-options.ts';
import { checkLofitConfig, type Head } from './config.ts';
import { LofitModel, range } from './lofit.ts';

export interface HeadSelectionOptions<Batch> {
  /** What is minimised, a mean over the batch. */
  loss(batch: Batch): Tensor;
  /** As many as `steps`; each is disposed of by whoever makes it. */
  batches: Iterable<Batch>;
  steps: number;
  /** Heads to choose. Default a tenth of all. The paper uses about 3% for the offsets. */
  k?: number;
  /** Weight of `sum |A|`. Default 5e-4. */
  l1Lambda?: number;
  /** Falls linearly to zero. Default 5e-3. */
  learningRate?: number;
  initStd?: number;
  projections?: readonly string[];
  numHeads?: number;
  /** Default `new Rng(0)`. */
  rng?: Rng;
}

/**
 * Stage 1 of LoFiT: trains scalings of all heads, `loss + lambda sum |A|` by AdamW without decay, and chooses the `k` heads
 * whose scalings are longest. The scalings are thrown away and the model is left as it was. With few examples the choice
 * is noisy: compare seeds.
 * @returns the chosen heads, best first, and the score of every head of the model.
 * @throws ConfigError for options out of range; NumericsError if the loss is not finite.
 */
export function selectHeads<Batch extends Tensor | readonly Tensor[]>(
  model: AnyModule,
  options: HeadSelectionOptions<Batch>,
): { heads: Head[]; scores: { head: Head; score: number }[] } {
  const { loss, batches, steps, l1Lambda = 5e-4, learningRate = 5e-3, initStd, projections, numHeads, rng } = options;
  if (!isRank(steps)) refuse('steps', steps, 'a positive integer');
  if (!(Number.isFinite(l1Lambda) && l1Lambda >= 0)) refuse('l1Lambda', l1Lambda, 'a finite number of at least 0');
  const config = { scale: true, offset: false, initStd, projections, numHeads };
  const handle = new LofitModel(model, checkLofitConfig(config), { rng, name: 'selection' });
  const parameters = handle.parameters();
  const schedule = linear({ init: learningRate, end: 0, steps });
  const optimizer = new Optimizer(parameters, adamw({ learningRate: schedule, weightDecay: 0 }));
  const step = jit(
    (batch: Batch): Tensor => {
      const objective = (): Tensor => add(loss(batch), handle.l1Penalty(l1Lambda));
      const { loss: value, grads } = lossAndGrads(objective, parameters);
      optimizer.step(grads);
      disposeMap(grads);
      return value;
    },
    { state: [moduleState(model), optimizer], name: 'selectHeads' },
  );
  try {
    const k = options.k ?? Math.max(1, Math.round(handle.heads.length / 10));
    if (!isRank(k) || k > handle.heads.length) refuse('k', k, `an integer from 1 to ${handle.heads.length}`);
    let done = 0;
    for (const batch of batches) {
      if (done === steps) break;
      const value = step(batch);
      const [last] = value.dataSync();
      value.dispose();
      done++;
      if (!Number.isFinite(last)) throw new NumericsError(`The loss of head selection is ${last} in step ${done}.`);
    }
    if (done < steps) throw new ConfigError(`batches ended after ${done}; steps is ${steps}.`);
    const scores = handle.scores();
    return {
      heads: topHeads(scores, k).map((i) => handle.heads[i]),
      scores: handle.heads.map((head, i) => ({ head, score: scores[i] })),
    };
  } finally {
    step.dispose();
    optimizer.dispose();
    handle.unload();
  }
}

/** The indices of the `k` largest scores, largest first; of equal ones the later first. */
export function topHeads(scores: readonly number[], k: number): number[] {
  return range(scores.length)
    .sort((a, b) => scores[b] - scores[a] || b - a)
    .slice(0, k);
}

/** `lambda sum |x|` with the gradient `lambda sign(x)`, `sign(0) = 0`. */
export function l1(x: Tensor, lambda: number): Scalar {
  return tidy(() => mul(sum(mul(x, stopGradient(sign(x)))), lambda) as Scalar);
}
