import { Optimizer } from '@ashlar/optim';
import {
  type AnyModule,
  type Buffer,
  ConfigError,
  disposeMap,
  FormatError,
  loadStateDict,
  NumericsError,
  type Parameter,
  type Rng,
  type StateDict,
  type Tensor,
} from '@ashlar/tensor';
import { type Batch, BatchStream } from './batches.ts';
import {
  type Checkpoint,
  type CheckpointEntry,
  checkWritable,
  disposeCheckpoint,
  listCheckpoints,
  readCheckpoint,
  writeCheckpoint,
} from './checkpoint.ts';
import { findNonFinite, nonFinite } from './diagnose.ts';
import { BestLoss } from './early-stopping.ts';
import { evaluate } from './evaluate.ts';
import type { CheckpointEvent, EvaluationEvent, StepEvent, StoppedEvent, WarningEvent } from './events.ts';
import { stepGradients } from './gradients.ts';
import type { Json } from './json.ts';
import { perplexity } from './metrics.ts';
import { joinStates, signalObjective, splitState, type WeightedObjective } from './objectives.ts';
import type { CheckpointOptions, TrainOptions } from './options.ts';
import { collectRngs, restoreRngs, rngStates } from './rng-states.ts';
import { checkSameConfig, parseRunState, type RunState } from './run-state.ts';
import { StepFunctions } from './step-functions.ts';

/** All that changes during a run, and the things it does: a step, an evaluation, a checkpoint, a resume. */
export class TrainingRun<B extends Batch> {
  step = 0;
  /** The loss of the last step. */
  loss: number | undefined;
  /** The step of the last evaluation. */
  evaluatedAt: number | undefined;
  readonly best: BestLoss;
  readonly stream: BatchStream<B>;
  readonly #options: TrainOptions<B>;
  readonly #objective: WeightedObjective;
  readonly #optimizer: Optimizer;
  readonly #functions: StepFunctions<B>;
  readonly #rngs: Map<string, Rng>;
  readonly #evaluationStart: Json | undefined;
  /** Whether something has changed since the last checkpoint. */
  #unsaved = true;
  #lastCheckpoint: string | undefined;

  constructor(options: TrainOptions<B>) {
    const { model, objective = signalObjective(), batches, epochs, optimizer, earlyStopping, rngs, evaluate } = options;
    this.#options = options;
    this.#objective = objective;
    this.#optimizer = new Optimizer(model.trainableParameters(), optimizer);
    const { gradients, jit } = options;
    this.#functions = new StepFunctions({ ...options, objective, optimizer: this.#optimizer, gradients, jit });
    this.#rngs = collectRngs(model, rngs);
    this.#evaluationStart = evaluate?.batches.state?.();
    this.best = new BestLoss(earlyStopping);
    this.stream = new BatchStream(batches, epochs);
  }

  /** The step at which the run ends, where that is known before. */
  get totalSteps(): number | null {
    const { steps = Infinity, epochs = Infinity, accumulationSteps = 1 } = this.#options;
    const total = Math.min(steps, Math.ceil((epochs * (this.stream.length ?? Infinity)) / accumulationSteps));
    return Number.isFinite(total) ? total : null;
  }

  /** Why the run must not do another step, if so. */
  get stopReason(): StoppedEvent['reason'] | undefined {
    if (this.#options.signal?.aborted) return 'cancelled';
    if (this.best.exhausted) return 'early-stopping';
    return this.step >= (this.#options.steps ?? Infinity) ? 'finished' : undefined;
  }

  /** One update of the parameters; undefined when the data is over. */
  async trainStep(): Promise<StepEvent | undefined> {
    const { model, forward, ema, accumulationSteps: microBatches = 1 } = this.#options;
    const began = performance.now();
    const result = await stepGradients({
      gradients: this.#functions.gradients,
      stream: this.stream,
      microBatches,
      diagnose: (loss, batch) =>
        this.#numericsError(
          this.step + 1,
          `the loss is ${loss}`,
          findNonFinite(model, forward, batch) ?? 'The objective gave it from finite signals.',
        ),
    });
    if (result === undefined) return undefined;
    const { loss, grads, weight } = result;
    let gradNorm: number;
    try {
      gradNorm = await read(await this.#functions.gradNorm(grads));
      if (!Number.isFinite(gradNorm)) {
        throw this.#numericsError(
          this.step + 1,
          `the norm of the gradients is ${gradNorm}`,
          nonFinite('gradient', grads) ?? 'Each of them is finite: their squares are beyond float32.',
        );
      }
      await this.#functions.update(grads);
    } finally {
      disposeMap(grads);
    }
    ema?.update();
    this.step++;
    this.loss = loss;
    this.#unsaved = true;
    const seconds = (performance.now() - began) / 1000;
    const learningRate = await this.#optimizer.learningRate();
    return {
      type: 'step',
      step: this.step,
      epoch: this.stream.epoch,
      loss,
      ...(learningRate !== undefined && { learningRate }),
      gradNorm,
      ...(this.#objective.weight !== undefined && { tokensPerSecond: weight / seconds }),
      seconds,
    };
  }

  async evaluate(): Promise<EvaluationEvent> {
    const { model, forward, ema, evaluate: options } = this.#options;
    if (options === undefined) throw new ConfigError('evaluate is undefined.');
    const began = performance.now();
    const { batches, objective = this.#objective, metrics } = options;
    if (this.#evaluationStart !== undefined) batches.restore?.(this.#evaluationStart);
    ema?.swap();
    try {
      const result = await evaluate({ model, forward, objective, batches, metrics });
      const improved = this.best.update(result.loss);
      this.evaluatedAt = this.step;
      this.#unsaved = true;
      const e = perplexity(result.loss);
      return {
        type: 'evaluation',
        step: this.step,
        loss: result.loss,
        ...(Number.isFinite(e) && { perplexity: e }),
        metrics: result.metrics,
        best: this.best.best,
        improved,
        seconds: (performance.now() - began) / 1000,
      };
    } catch (error) {
      if (!(error instanceof NumericsError)) throw error;
      throw this.#numericsError(this.step, 'the evaluation loss is not finite', this.#badParameter() ?? error.message);
    } finally {
      ema?.swap();
    }
  }

  /** Writes a checkpoint unless nothing has changed since the last one. */
  async save(options: CheckpointOptions): Promise<CheckpointEvent | undefined> {
    if (!this.#unsaved) return undefined;
    // A step that went wrong shows only in the next one's loss; until then it must not replace a good checkpoint.
    const bad = this.#badParameter();
    if (bad !== undefined) throw this.#numericsError(this.step, 'the update left numbers that are not finite', bad);
    const path = await writeCheckpoint(options.folder, this.step, this.#capture(), { keep: options.keep ?? 2 });
    this.#unsaved = false;
    this.#lastCheckpoint = path;
    return { type: 'checkpoint', step: this.step, path };
  }

  /**
   * Looks at the folder before the first step: it must be writable, and hold no other run's checkpoints.
   * With `resume` it continues from the newest one that is whole.
   */
  async open({ folder }: CheckpointOptions): Promise<{ resumedFrom?: string; warnings: WarningEvent[] }> {
    await checkWritable(folder);
    const entries = await listCheckpoints(folder);
    if (!this.#options.resume && entries.length > 0) {
      throw new ConfigError(
        `checkpoint.folder '${folder}' has the checkpoints of a run already, up to step ${entries[0].step}; ` +
          'it must be empty, or resume must be true.',
      );
    }
    const warnings: WarningEvent[] = [];
    for (const entry of entries) {
      const checkpoint = await this.#read(entry, warnings);
      if (checkpoint === undefined) continue;
      try {
        await this.#restore(checkpoint, entry.path);
      } finally {
        disposeCheckpoint(checkpoint);
      }
      this.#unsaved = false;
      this.#lastCheckpoint = entry.path;
      return { resumedFrom: entry.path, warnings };
    }
    if (entries.length > 0) {
      throw new FormatError(
        `No checkpoint in ${folder} can be read.\n  ${warnings.map((w) => w.message).join('\n  ')}`,
      );
    }
    return { warnings };
  }

  /** What the run has to say about itself since it was last asked. */
  takeWarnings(): WarningEvent[] {
    const { warning } = this.#functions;
    this.#functions.warning = undefined;
    return warning === undefined ? [] : [{ type: 'warning', step: this.step, message: warning }];
  }

  async close(): Promise<void> {
    this.#functions.dispose();
    this.#optimizer.dispose();
    await this.stream.close();
  }

  /** A damaged checkpoint gives a warning, for the one before it to be tried. */
  async #read(entry: CheckpointEntry, warnings: WarningEvent[]): Promise<Checkpoint | undefined> {
    try {
      return await readCheckpoint(entry.path);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      warnings.push({ type: 'warning', step: entry.step, message: error.message });
      return undefined;
    }
  }

  #capture(): Checkpoint {
    const { ema, callbacks = [], config = {} } = this.#options;
    const state: RunState = {
      format: 1,
      step: this.step,
      batches: this.stream.position(),
      rngs: rngStates(this.#rngs),
      best: this.best.best === Infinity ? null : this.best.best,
      evaluationsSinceBest: this.best.evaluationsSince,
      evaluatedAt: this.evaluatedAt ?? null,
      config,
    };
    const optional: [string, StateDict][] = [
      ['ema', ema?.stateDict() ?? new Map()],
      ['objective', this.#objective.stateDict?.() ?? new Map()],
      ['callbacks', joinStates(callbacks)],
    ];
    return {
      tensors: {
        model: new Map([...this.#modelSlots()].map(([name, slot]) => [name, slot.stored])),
        optimizer: this.#optimizer.stateDict(),
        ...Object.fromEntries(optional.filter(([, tensors]) => tensors.size > 0)),
      },
      state: state as unknown as Checkpoint['state'],
    };
  }

  async #restore({ tensors, state: json }: Checkpoint, path: string): Promise<void> {
    const { model, ema, callbacks = [], config = {} } = this.#options;
    const state = parseRunState(json, `${path}/state.json`);
    checkSameConfig(state.config, config, path);
    const group = (name: string): StateDict => tensors[name] ?? new Map<string, Tensor>();
    checkSameNames(group('model'), this.#modelSlots(), `${path}/model.safetensors`);
    loadStateDict(model, group('model'), { strict: false, source: `${path}/model.safetensors` });
    this.#optimizer.loadStateDict(group('optimizer'), { source: `${path}/optimizer.safetensors` });
    ema?.loadStateDict(group('ema'), { source: `${path}/ema.safetensors` });
    this.#objective.loadStateDict?.(group('objective'));
    splitState(callbacks, group('callbacks'));
    restoreRngs(this.#rngs, state.rngs);
    await this.stream.seek(state.batches);
    this.step = state.step;
    this.best.best = state.best ?? Infinity;
    this.best.evaluationsSince = state.evaluationsSinceBest;
    this.evaluatedAt = state.evaluatedAt ?? undefined;
  }

  /** What `model.safetensors` holds: buffers, which training changes too, and the parameters that train or all. */
  #modelSlots(): Map<string, Parameter | Buffer> {
    const { model, checkpoint } = this.#options;
    const all = checkpoint?.parameters === 'all';
    return new Map<string, Parameter | Buffer>([
      ...[...model.namedParameters()].filter(([, parameter]) => all || parameter.requiresGrad),
      ...[...model.namedBuffers()].filter(([, buffer]) => buffer.persistent),
    ]);
  }

  #badParameter(): string | undefined {
    return nonFinite('parameter', trainableTensors(this.#options.model));
  }

  #numericsError(step: number, what: string, cause: string): NumericsError {
    const kept = this.#lastCheckpoint === undefined ? '' : ` The last good checkpoint is ${this.#lastCheckpoint}.`;
    return new NumericsError(`Step ${step}: ${what}. ${cause}${kept}`);
  }
}

function trainableTensors(model: AnyModule): Map<string, Tensor> {
  return new Map([...model.trainableParameters()].map(([name, parameter]) => [name, parameter.stored]));
}

async function read(scalar: Tensor): Promise<number> {
  const [value] = await scalar.data();
  scalar.dispose();
  return value;
}

/** @throws FormatError listing the names that only one of them has. */
function checkSameNames(given: StateDict, expected: ReadonlyMap<string, unknown>, source: string): void {
  const missing = [...expected.keys()].filter((name) => !given.has(name));
  const unexpected = [...given.keys()].filter((name) => !expected.has(name));
  const problems = [
    missing.length > 0 && `missing: ${missing.join(', ')}`,
    unexpected.length > 0 && `unexpected: ${unexpected.join(', ')}`,
  ].filter((problem) => problem !== false);
  if (problems.length > 0) {
    throw new FormatError(`${source} does not fit what trains in this model.\n  ${problems.join('\n  ')}`);
  }
}
