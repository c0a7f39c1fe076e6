import { Embedding, LayerNorm, Linear, TransformerBlock } from '@ashlar/nn';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  add,
  argMax,
  concat,
  crossEntropy,
  disposeMap,
  gelu,
  jit,
  lossAndGrads,
  Module,
  moduleState,
  Rng,
  reshape,
  slice,
  type Tensor,
  tensor,
  tensor1d,
  tidy,
} from '@ashlar/tensor';
import { defineClaim, type Measured, verdictOf } from '../../../tooling/claims/src/define-claim.ts';
import { ColumnEmbedding, Rope, type VisualScheme, visualPositions } from '../src/index.ts';
import { oneCycle } from '../test/needle-model.ts';

const [WIDTH, HEADS, LAYERS, SIDE, KINDS, STEPS] = [48, 2, 2, 2, 4, 1200];
const CELLS = SIDE * SIDE;
/** Colour or shape, two rows, two columns, ASK. */
const [VOCABULARY, QUESTION] = [7, 4];
const SCHEMES: readonly VisualScheme[] = ['share_all', 'share_by_row', 'share_by_row_col'];

/** A frozen expert: one code for each kind of its attribute, one for each cell, and noise. */
interface Expert {
  readonly dim: number;
  readonly attribute: 0 | 1;
  readonly kinds: Float32Array;
  readonly cells: Float32Array;
}

const expert = (dim: number, attribute: 0 | 1, rng: Rng): Expert => ({
  dim,
  attribute,
  kinds: rng.fork('kinds').normalArray(KINDS * dim),
  cells: rng.fork('cells').normalArray(CELLS * dim),
});

/** `[batch, cells, dim]` for scenes that are colour and shape of each cell. */
function look({ dim, attribute, kinds, cells }: Expert, scenes: Int32Array, count: number, rng: Rng): Tensor {
  const noise = rng.normalArray(count * CELLS * dim);
  const features = noise.map((value, i) => {
    const [channel, place] = [i % dim, Math.floor(i / dim)];
    const kind = scenes[2 * place + attribute];
    return kinds[kind * dim + channel] + cells[(place % CELLS) * dim + channel] + 0.1 * value;
  });
  return tensor(features, [count, CELLS, dim]);
}

/** A causal rotary decoder on fused features of experts and a question. */
class Seer extends Module<[Tensor[], Tensor]> {
  readonly first: Linear[];
  readonly shared: Linear;
  readonly columns: ColumnEmbedding | undefined;
  readonly words: Embedding;
  readonly blocks: TransformerBlock[];
  readonly norm: LayerNorm;
  readonly head: Linear;
  readonly ids: Int32Array;
  readonly columnIndex: Int32Array;
  /** Positions that the visual tokens take. */
  readonly usedByVision: number;

  constructor(experts: readonly Expert[], scheme: VisualScheme, rng: Rng) {
    super();
    const grids = experts.map(() => ({ rows: SIDE, columns: SIDE }));
    const places = visualPositions({ textBefore: 0, grids, textAfter: QUESTION, scheme });
    this.ids = places.ids;
    this.columnIndex = places.columnIndex;
    this.usedByVision = places.usedByVision;
    this.first = experts.map(({ dim }, i) => new Linear(dim, WIDTH, { rng: rng.fork('first').fork(i) }));
    this.shared = new Linear(WIDTH, WIDTH, { rng: rng.fork('shared') });
    this.columns = scheme === 'share_by_row_col' ? new ColumnEmbedding({ maxColumns: SIDE, dim: WIDTH }) : undefined;
    this.words = new Embedding(VOCABULARY, WIDTH, { rng: rng.fork('words') });
    const encoding = new Rope({ headDim: WIDTH / HEADS });
    this.blocks = Array.from(
      { length: LAYERS },
      (_, layer) => new TransformerBlock(WIDTH, { heads: HEADS, causal: true, encoding, layer, rng: rng.fork(layer) }),
    );
    this.norm = new LayerNorm(WIDTH);
    this.head = new Linear(WIDTH, 2 * KINDS, { rng: rng.fork('head') });
  }

  forward(features: Tensor[], question: Tensor): Tensor {
    const hidden = concat(
      features.map((x, i) => this.first[i].apply(x)),
      1,
    );
    const tokens = concat([this.shared.apply(gelu(hidden)), this.words.apply(question)], 1);
    const start = this.columns === undefined ? tokens : add(tokens, this.columns.apply(this.columnIndex));
    const positions = tensor1d(this.ids, 'int32');
    const out = this.blocks.reduce((x, block) => block.apply(x, { positions }), start);
    const [batch, seq] = out.shape as [number, number];
    return this.head.apply(this.norm.apply(reshape(slice(out, [0, seq - 1, 0], [-1, 1, -1]), [batch, WIDTH])));
  }
}

interface Batch {
  features: Tensor[];
  question: Tensor;
  labels: Tensor;
}

function draw(experts: readonly Expert[], count: number, rng: Rng): Batch & { asked: Int32Array; answers: Int32Array } {
  const scenes = Int32Array.from({ length: count * CELLS * 2 }, () => rng.integer(0, KINDS));
  const question = new Int32Array(count * QUESTION);
  const [asked, answers] = [new Int32Array(count), new Int32Array(count)];
  for (let i = 0; i < count; i++) {
    const [attribute, row, column] = [rng.integer(0, 2), rng.integer(0, SIDE), rng.integer(0, SIDE)];
    question.set([attribute, 2 + row, 4 + column, 6], i * QUESTION);
    asked[i] = attribute;
    answers[i] = attribute * KINDS + scenes[2 * (i * CELLS + row * SIDE + column) + attribute];
  }
  return {
    features: experts.map((own, i) => look(own, scenes, count, rng.fork(i))),
    question: tensor(question, [count, QUESTION], 'int32'),
    labels: tensor1d(answers, 'int32'),
    asked,
    answers,
  };
}

const dispose = ({ features, question, labels }: Batch): void => {
  for (const tensor of [...features, question, labels]) tensor.dispose();
};

function train(model: Seer, experts: readonly Expert[], rng: Rng): void {
  const parameters = model.trainableParameters();
  const optimizer = new Optimizer(parameters, adamw({ learningRate: oneCycle(3e-3, STEPS) }));
  const step = jit(
    (features: Tensor[], question: Tensor, labels: Tensor): Tensor => {
      const { loss, grads } = lossAndGrads(() => crossEntropy(model.apply(features, question), labels), parameters);
      optimizer.step(grads);
      disposeMap(grads);
      return loss;
    },
    { state: [moduleState(model), optimizer] },
  );
  for (let i = 0; i < STEPS; i++) {
    const batch = draw(experts, 64, rng.fork(i));
    step(batch.features, batch.question, batch.labels).dispose();
    dispose(batch);
  }
  step.dispose();
  optimizer.dispose();
}

export default defineClaim({
  slug: 'mousi',
  title: 'MouSi: experts that see different things, and positions that their tokens share',
  source: 'Fan et al. 2024, arXiv 2401.17221 (the code was not released; fusion and positions are reconstructed)',
  statement:
    'Scenes of 2 x 2 cells with a colour and a shape; one frozen expert sees colours, one shapes. A causal rotary decoder ' +
    '(2 layers, width 48) answers questions about a cell from fused features. With both experts it is right in at least 93%, ' +
    'at least 25 points above the better single one; a single expert is within 5 points of chance (25%) on what it cannot ' +
    'see. Sharing positions (8, 2, 4 and 4 of them) costs at most 12 points.',
  baselines: ['colours alone', 'shapes alone'],
  seeds: [0, 1, 2],

  async run({ seed, log }) {
    const rng = new Rng(`mousi ${seed}`);
    const results: Record<string, number> = {};
    const [colours, shapes] = [expert(12, 0, rng.fork('A')), expert(10, 1, rng.fork('B'))];
    const measure = (row: string, experts: readonly Expert[], scheme: VisualScheme): void => {
      const model = new Seer(experts, scheme, rng.fork('model'));
      train(model, experts, rng.fork('train'));
      model.eval();
      const { asked, answers, ...test } = draw(experts, 2000, rng.fork('test'));
      const given = tidy(() => argMax(model.apply(test.features, test.question), -1).dataSync());
      const share = (of: (i: number) => boolean): number => {
        const questions = Array.from(asked.keys()).filter(of);
        return (100 * questions.filter((i) => given[i] === answers[i]).length) / questions.length;
      };
      results[`${row}/right %`] = share(() => true);
      results[`${row}/colours %`] = share((i) => asked[i] === 0);
      results[`${row}/shapes %`] = share((i) => asked[i] === 1);
      results[`${row}/positions of the picture`] = model.usedByVision;
      log(`${row}: ${results[`${row}/right %`].toFixed(1)}%`);
      dispose(test);
      model.dispose();
    };
    measure('colours alone', [colours], 'original');
    measure('shapes alone', [shapes], 'original');
    measure('both, original', [colours, shapes], 'original');
    for (const scheme of SCHEMES) measure(`both, ${scheme}`, [colours, shapes], scheme);
    return results;
  },

  verdict(results: Record<string, Measured>) {
    const right = (row: string): number => results[`${row}/right %`].mean;
    const both = right('both, original');
    const taken = (row: string, positions: number): boolean =>
      results[`${row}/positions of the picture`].values.every((value) => value === positions);
    return verdictOf([
      ['both at least 93%', both >= 93],
      ['both 25 points above the better one', both >= Math.max(right('colours alone'), right('shapes alone')) + 25],
      ['colours alone at chance on shapes', Math.abs(results['colours alone/shapes %'].mean - 25) <= 5],
      ['shapes alone at chance on colours', Math.abs(results['shapes alone/colours %'].mean - 25) <= 5],
      ...SCHEMES.map((scheme) => [`${scheme} within 12 points`, right(`both, ${scheme}`) >= both - 12] as const),
      [
        '8, 2, 4 and 4 positions',
        taken('both, original', 8) &&
          taken('both, share_all', 2) &&
          taken('both, share_by_row', 4) &&
          taken('both, share_by_row_col', 4),
      ],
    ]);
  },
});
