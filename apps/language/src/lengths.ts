import {
  LENGTH_TASKS,
  type LengthExample,
  type LengthTaskName,
  lengthsOf,
  lengthTask,
  type Scratchpad,
} from '@ashlar/data';
import { Clex } from '@ashlar/encodings';
import { type CausalLM, createModel } from '@ashlar/models';
import { adamw, chain, clipByGlobalNorm, Optimizer, warmupCosine } from '@ashlar/optim';
import {
  AshlarError,
  add,
  argMax,
  ConfigError,
  checkInteger,
  closestNames,
  crossEntropy,
  disposeMap,
  jit,
  lossAndGrads,
  Module,
  moduleState,
  type PositionEncoding,
  quote,
  Rng,
  type Scalar,
  type Tensor,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { ENCODINGS, type EncodingSetting } from './encodings.ts';

/** Draws `count` problems, lengths `minLength .. maxLength` in turn, as `lengthTask` of @ashlar/data. */
export type DrawExamples = (
  options: { minLength: number; maxLength: number; count: number },
  rng: Rng,
) => readonly Pick<LengthExample, 'prompt' | 'target' | 'length'>[];

/** An encoding that draws what its auxiliary loss needs before each step, as SeqPE does. */
type TrainedEncoding = PositionEncoding & { sample?(): void };

/** An encoding of one's own; a module as a function that makes one, since every run needs its own. */
export type OwnEncoding = TrainedEncoding | ((setting: EncodingSetting) => TrainedEncoding);

export interface LengthsOptions {
  /** A task of @ashlar/data, or one of one's own. Default `'repeat'`. */
  task?: string | DrawExamples;
  /** Keys of `ENCODINGS`, or encodings by the names to report. Default none, sinusoidal, t5, alibi and rope. */
  encodings?: readonly string[] | Readonly<Record<string, OwnEncoding>>;
  /** The longest problem in training. Default 10. */
  trainLength?: number;
  /** The longest problem in the test. Default twice `trainLength`. */
  testLength?: number;
  /** Default 800. */
  steps?: number;
  /** One model for each. Default 0, 1, 2. */
  seeds?: readonly number[];
  /** Problems of one length per step. Default 64. */
  batchSize?: number;
  /** Problems of each length in the test. Default 100. */
  count?: number;
  /** Different symbols in tasks that have such. Default 8. */
  symbols?: number;
  /** Steps to the answer that are to be written too, in tasks that have such. Default false. */
  scratchpad?: Scratchpad;
  /** Default 32. */
  width?: number;
  /** Default 4. */
  heads?: number;
  /** Default 2. */
  layers?: number;
  /** Peak of the one cycle. Default 2e-3. */
  learningRate?: number;
  /** Runs to leave out: those that an earlier call with the same options has measured. Default none. */
  done?: readonly Pick<LengthsRun, 'encoding' | 'seed'>[];
  signal?: AbortSignal;
}

/** The share of problems of a length that are right to the last token; null where the encoding refuses the length. */
export interface LengthAccuracy {
  length: number;
  accuracy: number | null;
}

export type LengthsEvent =
  | { type: 'step'; encoding: string; seed: number; step: number; loss: number }
  | { type: 'measured'; encoding: string; seed: number; accuracy: LengthAccuracy[]; seconds: number };

export type LengthsRun = Omit<Extract<LengthsEvent, { type: 'measured' }>, 'type'>;

const DEFAULT_ENCODINGS = ['none', 'sinusoidal', 't5', 'alibi', 'rope'];
const LOG_EVERY = 50;
/** Sequences are padded to a multiple of it, so that few shapes have to be compiled. */
const MULTIPLE = 8;
const IGNORED = -100;

/**
 * Length generalization: for each encoding and seed trains a small GPT-2 on problems up to `trainLength` and measures it
 * on each length up to `testLength`, by teacher-forced exact match (which is what greedy decoding gets right). Going
 * through the events does the work; `loss` is what every 50th step made smaller.
 *
 * Model: pre-norm, ReLU, no dropout, weights drawn at `width^-1/2`. Training: AdamW (weight decay 0.05) in one cycle with
 * 6% warm-up, gradients clipped to norm 1, loss on what follows the prompt alone. An encoding's `auxiliaryLoss` is added, its
 * `sample` is called before each step, and `Clex` learns at a scale drawn from `1 .. maxFactor`, at its `trainingPositions`.
 *
 * Source: Kazemnejad et al. 2023, arXiv 2305.19466, at a size for two CPU cores.
 * @throws ConfigError for an unknown task or encoding and options out of range, before anything is trained.
 */
export function lengthGeneralization(options: LengthsOptions = {}): AsyncGenerator<LengthsEvent, void, void> {
  const study = new Study(options);
  return study.run();
}

class Study {
  readonly #draw: DrawExamples;
  readonly #encodings: [string, (setting: EncodingSetting) => TrainedEncoding][];
  readonly #options: Required<
    Omit<LengthsOptions, 'task' | 'encodings' | 'signal' | 'symbols' | 'scratchpad' | 'done'>
  >;
  readonly #minLength: number;
  readonly #named: LengthTaskName | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #done: ReadonlySet<string>;

  constructor(options: LengthsOptions) {
    const {
      task = 'repeat',
      encodings = DEFAULT_ENCODINGS,
      symbols = 8,
      scratchpad,
      signal,
      done = [],
      ...numbers
    } = options;
    const trainLength = numbers.trainLength ?? 10;
    this.#options = {
      ...{ trainLength, testLength: 2 * trainLength, steps: 800, seeds: [0, 1, 2], batchSize: 64, count: 100 },
      ...{ width: 32, heads: 4, layers: 2, learningRate: 2e-3 },
      ...Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== undefined)),
    };
    const { testLength, seeds, width, heads, learningRate } = this.#options;
    this.#draw =
      typeof task === 'string' ? (lengths, rng) => lengthTask(task, { ...lengths, symbols, scratchpad }, rng) : task;
    this.#named = typeof task === 'string' && Object.hasOwn(LENGTH_TASKS, task) ? (task as LengthTaskName) : undefined;
    this.#minLength = this.#named === undefined ? 1 : LENGTH_TASKS[this.#named].minLength;
    for (const name of [
      'trainLength',
      'testLength',
      'steps',
      'batchSize',
      'count',
      'width',
      'heads',
      'layers',
    ] as const) {
      checkInteger('lengths', name, this.#options[name]);
    }
    if (trainLength < this.#minLength) {
      throw new ConfigError(`lengths: trainLength is ${trainLength}; ${quote(task)} starts at ${this.#minLength}.`);
    }
    if (testLength <= trainLength) {
      throw new ConfigError(
        `lengths: testLength is ${testLength}; it must be above trainLength, ${trainLength}, or nothing unseen is tested.`,
      );
    }
    if (!(learningRate >= 0 && Number.isFinite(learningRate))) {
      throw new ConfigError(`lengths: learningRate is ${quote(learningRate)}; it must be a number of at least 0.`);
    }
    if (seeds.length === 0) throw new ConfigError('lengths: seeds is empty; give at least one.');
    if (width % heads !== 0)
      throw new ConfigError(`lengths: width is ${width}; it must be a multiple of heads, ${heads}.`);
    this.#encodings = makers(encodings);
    this.#signal = signal;
    this.#done = new Set(done.map(keyOf));
    if (this.#draw({ minLength: this.#minLength, maxLength: testLength, count: 1 }, new Rng(0)).length !== 1) {
      throw new ConfigError('lengths: the task must draw as many problems as it is asked for.');
    }
    const longest = this.#lengthsTo(testLength).at(-1) ?? 0;
    if (longest <= trainLength) {
      throw new ConfigError(
        `lengths: ${quote(task)} has no lengths from ${trainLength + 1} to ${testLength}; make testLength larger.`,
      );
    }
  }

  async *run(): AsyncGenerator<LengthsEvent, void, void> {
    for (const seed of new Set(this.#options.seeds)) {
      const left = this.#encodings.filter(([encoding]) => !this.#done.has(keyOf({ encoding, seed })));
      if (left.length === 0) continue;
      const data = this.#data(new Rng(seed).fork('data'));
      // One that does not fit the model is refused at once, not after the others were trained.
      for (const [, make] of left) {
        const encoding = make(this.#setting(new Rng(seed), data));
        if (encoding instanceof Module) encoding.dispose();
      }
      for (const [encoding, make] of left) yield* this.#one(encoding, make, seed, data);
    }
  }

  /** The lengths that the task has. */
  #lengthsTo(longest: number): number[] {
    if (this.#named !== undefined) return lengthsOf(this.#named, this.#minLength, longest);
    return Array.from({ length: longest }, (_, i) => 1 + i);
  }

  /** The test and the vocabulary, the same for all encodings. */
  #data(rng: Rng): Data {
    const { trainLength, testLength, count } = this.#options;
    const test = this.#lengthsTo(testLength).map((length) => ({
      length,
      examples: this.#draw({ minLength: length, maxLength: length, count }, rng.fork('test').fork(length)),
    }));
    const seen = this.#draw(
      { minLength: this.#minLength, maxLength: trainLength, count: 100 * trainLength },
      rng.fork('vocabulary'),
    );
    const all = [...seen, ...test.flatMap(({ examples }) => examples)];
    const vocabulary = new Vocabulary(all.flatMap(({ prompt, target }) => [prompt, target]));
    const longest = (examples: typeof seen): number =>
      Math.max(...examples.map((example) => vocabulary.encode(example).ids.length));
    return { test, vocabulary, trainedTokens: padded(longest(seen)), rng };
  }

  #setting(rng: Rng, { trainedTokens }: Data): EncodingSetting {
    const { width, heads, layers } = this.#options;
    return { heads, headDim: width / heads, layers, trainedLength: trainedTokens, rng: rng.fork('encoding') };
  }

  async *#one(
    name: string,
    make: (setting: EncodingSetting) => TrainedEncoding,
    seed: number,
    data: Data,
  ): AsyncGenerator<LengthsEvent, void, void> {
    const { trainLength, steps, batchSize, width, heads, layers, learningRate } = this.#options;
    const { test, vocabulary, trainedTokens } = data;
    const start = performance.now();
    const rng = new Rng(seed);
    const encoding = make(this.#setting(rng, data));
    const model = createModel(
      {
        ...{ model_type: 'gpt2', vocab_size: vocabulary.size, n_embd: width, n_layer: layers, n_head: heads },
        ...{ n_positions: trainedTokens, activation_function: 'relu', initializer_range: width ** -0.5 },
        ...{ resid_pdrop: 0, embd_pdrop: 0, attn_pdrop: 0 },
      },
      { rng: rng.fork('model'), encoding },
    );
    const parameters = model.trainableParameters();
    const schedule = warmupCosine({
      init: learningRate / 25,
      peak: learningRate,
      warmupSteps: Math.max(1, Math.round(0.06 * steps)),
      totalSteps: steps + 1,
      end: learningRate / 1e4,
    });
    const optimizer = new Optimizer(
      parameters,
      chain(clipByGlobalNorm(1), adamw({ learningRate: schedule, weightDecay: 0.05 })),
    );
    const update = jit(
      (ids: Tensor, labels: Tensor, positions?: Tensor): Tensor => {
        const { loss, grads } = lossAndGrads(() => {
          const task = crossEntropy(model.apply(ids, { positions }), labels) as Scalar;
          const auxiliary = encoding.auxiliaryLoss?.();
          return auxiliary === undefined ? task : add(task, auxiliary);
        }, parameters);
        optimizer.step(grads);
        disposeMap(grads);
        return loss;
      },
      { state: [moduleState(model), optimizer], maxGraphs: 200 },
    );
    const trained = this.#lengthsTo(trainLength);
    try {
      model.train();
      for (let step = 1; step <= steps; step++) {
        this.#signal?.throwIfAborted();
        const own = data.rng.fork('train').fork(step);
        const length = trained[own.integer(0, trained.length)];
        const batch = tensors(this.#draw({ minLength: length, maxLength: length, count: batchSize }, own), vocabulary);
        const positions = beforeStep(encoding, batch.ids.shape[1] as number, own.fork('positions'));
        const loss = update(batch.ids, batch.labels, ...(positions === undefined ? [] : [positions]));
        dispose(batch);
        positions?.dispose();
        const value = step % LOG_EVERY === 0 || step === steps ? (await loss.data())[0] : undefined;
        loss.dispose();
        if (value !== undefined) yield { type: 'step', encoding: name, seed, step, loss: value };
      }
      if (encoding instanceof Clex) encoding.factor = undefined;
      model.eval();
      const accuracy = test.map(({ length, examples }) => ({
        length,
        accuracy: exactMatch(model, tensors(examples, vocabulary), length > trainLength),
      }));
      yield { type: 'measured', encoding: name, seed, accuracy, seconds: (performance.now() - start) / 1000 };
    } finally {
      update.dispose();
      optimizer.dispose();
      model.dispose();
    }
  }
}

/** Lets an encoding draw what its next step needs: positions for `length` tokens, where they are not 0, 1 … */
function beforeStep(encoding: TrainedEncoding, length: number, rng: Rng): Tensor | undefined {
  encoding.sample?.();
  if (!(encoding instanceof Clex)) return undefined;
  encoding.factor = rng.integer(1, encoding.maxFactor + 1);
  return encoding.trainingPositions(length, encoding.factor, rng);
}

const keyOf = ({ encoding, seed }: Pick<LengthsRun, 'encoding' | 'seed'>): string => `${seed} ${encoding}`;

interface Data {
  test: { length: number; examples: ReturnType<DrawExamples> }[];
  vocabulary: Vocabulary;
  /** The longest sequence in training. */
  trainedTokens: number;
  rng: Rng;
}

const padded = (tokens: number): number => MULTIPLE * Math.ceil(tokens / MULTIPLE);

/** Words, symbols and the three marks, of a set of texts. */
class Vocabulary {
  readonly #ids = new Map<string, number>();

  constructor(texts: readonly string[]) {
    for (const token of texts.flatMap(words)) if (!this.#ids.has(token)) this.#ids.set(token, this.#ids.size);
  }

  /** With a separator, an end and one for what no text had. */
  get size(): number {
    return this.#ids.size + 3;
  }

  /** Prompt, separator and target, and of each the label: the next token, from the separator on. */
  encode({ prompt, target }: { prompt: string; target: string }): { ids: number[]; labels: number[] } {
    const [before, after] = [prompt, target].map((text) =>
      words(text).map((token) => this.#ids.get(token) ?? this.#ids.size + 2),
    );
    return {
      ids: [...before, this.#ids.size, ...after],
      labels: [...before.map(() => IGNORED), ...after, this.#ids.size + 1],
    };
  }
}

/** Marks in capitals, words, and all other characters one by one. */
const words = (text: string): string[] => text.match(/\[[A-Z]+\]|\p{L}+|\S/gu) ?? [];

interface Batch {
  /** int32 `[count, tokens]`. */
  ids: Tensor;
  /** int32 `[count, tokens]`; -100 where nothing is asked. */
  labels: Tensor;
}

function tensors(examples: ReturnType<DrawExamples>, vocabulary: Vocabulary): Batch {
  const rows = examples.map((example) => vocabulary.encode(example));
  const tokens = padded(Math.max(...rows.map(({ ids }) => ids.length)));
  const fill = (of: 'ids' | 'labels', rest: number): Tensor => {
    const out = new Int32Array(rows.length * tokens).fill(rest);
    for (const [i, row] of rows.entries()) out.set(row[of], i * tokens);
    return tensor2d(out, [rows.length, tokens], 'int32');
  };
  return { ids: fill('ids', 0), labels: fill('labels', IGNORED) };
}

function dispose({ ids, labels }: Batch): void {
  ids.dispose();
  labels.dispose();
}

/** The share of sequences whose every label is the likeliest token; null where an unseen length is refused. */
function exactMatch(model: CausalLM, batch: Batch, unseen: boolean): number | null {
  try {
    const [count, tokens] = batch.ids.shape as [number, number];
    const got = tidy(() => argMax(model.apply(batch.ids), -1).dataSync());
    const labels = batch.labels.dataSync();
    let right = 0;
    for (let row = 0; row < count; row++) {
      let all = true;
      for (let i = row * tokens; i < (row + 1) * tokens; i++) all &&= labels[i] === IGNORED || labels[i] === got[i];
      right += Number(all);
    }
    return right / count;
  } catch (error) {
    if (unseen && error instanceof AshlarError) return null;
    throw error;
  } finally {
    dispose(batch);
  }
}

/** @throws ConfigError for an unknown name, or a module given as an object. */
function makers(
  encodings: NonNullable<LengthsOptions['encodings']>,
): [string, (setting: EncodingSetting) => TrainedEncoding][] {
  if (!Array.isArray(encodings)) {
    return Object.entries(encodings as Readonly<Record<string, OwnEncoding>>).map(([name, own]) => {
      if (typeof own === 'function') return [name, own];
      if (typeof own !== 'object' || own === null) {
        throw new ConfigError(`lengths: encoding ${quote(name)} is ${quote(own)}; give an encoding or what makes one.`);
      }
      if (own instanceof Module) {
        throw new ConfigError(
          `lengths: encoding ${quote(name)} is a module; give a function that makes it for each run.`,
        );
      }
      return [name, () => own];
    });
  }
  return [...new Set(encodings as readonly string[])].map((name) => {
    if (Object.hasOwn(ENCODINGS, name)) return [name, ENCODINGS[name].make];
    const closest = closestNames(name, Object.keys(ENCODINGS), 2).join(', ');
    throw new ConfigError(`lengths: there is no encoding ${quote(name)}; closest: ${closest}.`);
  });
}

/** The runs of one encoding together. */
export interface LengthsSummary {
  encoding: string;
  /** Mean over seeds, for each length. */
  accuracy: LengthAccuracy[];
  /** Mean over the lengths of the training and over seeds. */
  seen: number;
  /** Mean over the longer ones and over seeds; refused lengths count as wrong. */
  unseen: number;
}

/** Means over seeds, in the order in which encodings first came. */
export function summarizeLengths(runs: readonly LengthsRun[], trainLength: number): LengthsSummary[] {
  const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
  return [...new Set(runs.map(({ encoding }) => encoding))].map((encoding) => {
    const own = runs.filter((run) => run.encoding === encoding).map(({ accuracy }) => accuracy);
    const accuracy = own[0].map(({ length }, i) => {
      const values = own.flatMap((run) => run[i].accuracy ?? []);
      return { length, accuracy: values.length === 0 ? null : mean(values) };
    });
    const over = (keep: (length: number) => boolean): number =>
      mean(accuracy.filter(({ length }) => keep(length)).map((at) => at.accuracy ?? 0));
    return { encoding, accuracy, seen: over((n) => n <= trainLength), unseen: over((n) => n > trainLength) };
  });
}
