import { Embedding, LayerNorm, Linear, TransformerBlock } from '@ashlar/nn';
import { adamw, Optimizer, type Schedule, warmupCosine } from '@ashlar/optim';
import {
  add,
  argMax,
  cast,
  crossEntropy,
  disposeMap,
  equal,
  jit,
  lossAndGrads,
  Module,
  mean,
  moduleState,
  type PositionEncoding,
  type Rng,
  range,
  reshape,
  slice,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { type NeedleTask, needleTask } from '../../data/src/index.ts';

const [WIDTH, HEADS, LAYERS, SYMBOLS] = [32, 2, 2, 24];
export const HEAD_DIM: number = WIDTH / HEADS;
/** The longest sequence in training. */
export const TRAINED = 32;

/** A causal pre-norm Transformer of 2 layers, width 32 and 2 heads that answers the query of a needle task. */
export class NeedleModel extends Module<[Tensor, Tensor?]> {
  readonly embedding: Embedding;
  readonly blocks: TransformerBlock[];
  readonly norm: LayerNorm;
  readonly head: Linear;
  readonly encoding: PositionEncoding;

  constructor(encoding: PositionEncoding, rng: Rng) {
    super();
    this.encoding = encoding;
    this.embedding = new Embedding(SYMBOLS + 2, WIDTH, { rng: rng.fork('embedding') });
    this.blocks = Array.from(
      { length: LAYERS },
      (_, layer) => new TransformerBlock(WIDTH, { heads: HEADS, causal: true, encoding, layer, rng: rng.fork(layer) }),
    );
    this.norm = new LayerNorm(WIDTH);
    this.head = new Linear(WIDTH, SYMBOLS, { rng: rng.fork('head') });
  }

  /** `[batch, seq]` to the logits of the last token, `[batch, symbols]`. */
  forward(ids: Tensor, positions: Tensor = range(0, ids.shape[1] as number, 1, 'int32')): Tensor {
    const tokens = this.embedding.apply(ids);
    const embedded = this.encoding.embed?.(positions);
    const start = embedded === undefined ? tokens : add(tokens, embedded);
    const out = this.blocks.reduce((x, block) => block.apply(x, { positions }), start);
    const [batch, seq] = ids.shape as [number, number];
    return this.head.apply(this.norm.apply(reshape(slice(out, [0, seq - 1, 0], [batch, 1, WIDTH]), [batch, WIDTH])));
  }

  /** The same weights with another encoding. The caller disposes of both. */
  with(encoding: PositionEncoding, rng: Rng): NeedleModel {
    const other = new NeedleModel(encoding, rng);
    const own = new Map(other.namedParameters());
    for (const [name, parameter] of this.namedParameters()) own.get(name)?.assign(parameter.stored.clone());
    return other;
  }
}

const dispose = ({ ids, labels }: NeedleTask): void => {
  ids.dispose();
  labels.dispose();
};

/** Cosine with a warm-up over the first 30%. */
export const oneCycle = (peak: number, steps: number): Schedule =>
  warmupCosine({ init: peak / 25, peak, warmupSteps: Math.round(0.3 * steps), totalSteps: steps, end: peak / 1e4 });

/**
 * Trains on sequences of 16 to 32 tokens, 32 a step, by AdamW.
 * @param options.positions of the tokens of a step, disposed of here. Default 0, 1 …
 */
export function trainNeedle(
  model: NeedleModel,
  options: { steps: number; peak: number; rng: Rng; positions?(length: number, rng: Rng): Tensor },
): void {
  const { steps, peak, rng, positions } = options;
  model.train();
  const parameters = model.trainableParameters();
  const optimizer = new Optimizer(parameters, adamw({ learningRate: oneCycle(peak, steps) }));
  const step = jit(
    (ids: Tensor, labels: Tensor, places?: Tensor): Tensor => {
      const { loss, grads } = lossAndGrads(() => crossEntropy(model.apply(ids, places), labels), parameters);
      optimizer.step(grads);
      disposeMap(grads);
      return loss;
    },
    { state: [moduleState(model), optimizer], maxGraphs: 100 },
  );
  for (let i = 0; i < steps; i++) {
    const own = rng.fork(i);
    const length = own.integer(TRAINED / 2, TRAINED + 1);
    const batch = needleTask({ count: 32, length, symbols: SYMBOLS }, own);
    const places = positions?.(length, own.fork('positions'));
    step(batch.ids, batch.labels, ...(places === undefined ? [] : [places])).dispose();
    dispose(batch);
    places?.dispose();
  }
  step.dispose();
  optimizer.dispose();
}

/** The share of `count` sequences of `length` tokens that are answered right. */
export function accuracy(model: NeedleModel, options: { count: number; length: number; rng: Rng }): number {
  model.eval();
  const task = needleTask({ ...options, symbols: SYMBOLS }, options.rng);
  const share = tidy(() => mean(cast(equal(argMax(model.apply(task.ids), -1), task.labels), 'float32')).dataSync()[0]);
  dispose(task);
  return share;
}
