import {
  type AnyModule,
  addN,
  ConfigError,
  checkFinite,
  isAllFinite,
  mul,
  type Parameter,
  Rng,
  type Scalar,
  scalar,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { assignTensors, ownConfig, PREFIX, readAdapterTensors, writeAdapterFiles } from '../adapter-files.ts';
import { freezeBase, thawBase } from '../frozen-base.ts';
import type { AdapterDescription, AdapterHandle, AttachOptions, Method } from '../method.ts';
import { loadInto } from '../parametrized-model.ts';
import { trainingOf } from '../trainable.ts';
import { type CheckedSaraConfig, checkSaraConfig, type SaraConfig } from './config.ts';
import { SaraEntry, type SaraSparsity } from './entry.ts';
import { asFormatError, baseProblems, FIELDS, readSaraFile, type SaraFile } from './files.ts';
import { baseParameters, pathsOf } from './parameters.ts';
import { selectEntries } from './select.ts';
import type { SaraValues } from './values.ts';

/**
 * SaRA: of all weights the smallest by magnitude train, those that a pretrained network hardly uses; all others stay, bit by
 * bit. No layer is chosen, no module added, inference costs nothing more. An index and three numbers per trained entry,
 * and an optimizer's moments for them alone.
 *
 * Trained with AdamW at `saraLearningRate(threshold)`. The low-rank term (`prepareRankTerm`, `rankTerm`) keeps the sparse
 * matrices low-rank; `reselect` freezes the entries that have grown. `callback` does both at their steps of a training run.
 * Zero-initialized biases and output layers lie below any threshold: `exclude` them if they should stay.
 *
 * Source: "SaRA: High-Efficient Diffusion Model Fine-tuning with Progressive Sparse Low-Rank Adaptation" (2024);
 * github.com/sjtuplayer/SaRA.
 * @throws ConfigError for options out of range, where nothing would train, or for a weight that another method
 *   parametrizes.
 */
export function sara(config: SaraConfig = {}): Method<SaraModel> {
  const checked = checkSaraConfig(config);
  return { attach: (model, options) => new SaraModel(model, checked, options) };
}

/** Above this share of the weights a warning says that hardly anything is left frozen. */
const MOST = 0.5;

/** The SaRA adapter of a model. While it is attached the base is frozen; `unload` gives the model back as it was. */
export class SaraModel implements AdapterHandle {
  readonly model: AnyModule;
  readonly name: string;
  readonly config: CheckedSaraConfig;
  /** What `config` came to: entries of smaller magnitude were selected. */
  readonly threshold: number;
  /** By name, those with entries that train. */
  readonly #entries = new Map<string, SaraEntry>();
  /** Names that the low-rank term is drawn among. */
  readonly #matrices: readonly string[];
  #rankMatrix: string | undefined;

  constructor(model: AnyModule, config: SaraConfig, options: AttachOptions = {}) {
    this.model = model;
    this.name = options.name ?? 'default';
    this.config = checkSaraConfig(config);
    const parameters = baseParameters(model, this.config);
    const weights = new Map([...parameters].map(([name, { stored }]) => [name, stored.dataSync<'float32'>()]));
    const { threshold, places } = selectEntries(weights, this.config);
    this.threshold = threshold;
    const isMatrix = (name: string): boolean => {
      const { shape } = parameters.get(name) as Parameter;
      return shape.length === 2 && Math.min(...shape) > this.config.minMatrixSide;
    };
    this.#matrices = this.config.lambdaRank > 0 ? [...parameters.keys()].filter(isMatrix) : [];
    for (const [name, own] of places) {
      const parameter = parameters.get(name) as Parameter;
      this.#entries.set(name, new SaraEntry(parameter, own, { threshold, lowRank: this.#matrices.includes(name) }));
    }
    const share = this.#count() / [...weights.values()].reduce((total, { length }) => total + length, 0);
    if (share > MOST) {
      const percent = (100 * share).toFixed(0);
      console.warn(
        `SaRA: ${percent}% of the weights are below the threshold ${threshold}; this is nearly full fine-tuning.`,
      );
    }
    freezeBase(model, this);
    this.enable();
  }

  /** All entries that were selected. */
  #count(): number {
    return [...this.#entries.values()].reduce((total, { base }) => total + base.count, 0);
  }

  #own(): Set<Parameter> {
    return new Set([...this.#entries.values()].map(({ values }) => values.sara_values));
  }

  /** The selected entries by name of their parameter. */
  get values(): ReadonlyMap<string, SaraValues> {
    return new Map([...this.#entries].map(([name, { values }]) => [name, values]));
  }

  /** None while the adapter is merged or disabled. */
  parameters(): Map<string, Parameter> {
    return trainingOf(this.model, this.#own());
  }

  get trainableFraction(): number {
    const own = this.#own();
    const base = this.model.parameters().filter((parameter) => !own.has(parameter));
    return this.#count() / base.reduce((total, { size }) => total + size, 0);
  }

  /** One line per layer; `r` is the number of its parameters with selected entries. */
  describe(): AdapterDescription[] {
    const layers = new Map<string, AdapterDescription>();
    const modules = new Map(this.model.namedModules());
    for (const [name, { parameter, values }] of this.#entries) {
      const path = pathsOf(name).findLast((path) => modules.has(path)) ?? '';
      const { r, parameters, baseParameters } = layers.get(path) ?? { r: 0, parameters: 0, baseParameters: 0 };
      layers.set(path, {
        path,
        adapter: this.name,
        layer: (modules.get(path) as AnyModule).constructor.name,
        r: r + 1,
        scaling: 1,
        parameters: parameters + values.size,
        baseParameters: baseParameters + parameter.size,
      });
    }
    return [...layers.values()];
  }

  /** Uses the adapter again after `disable`. */
  enable(): void {
    for (const entry of this.#entries.values()) entry.show();
  }

  /** Runs the base alone until `enable`; a merged adapter is unmerged. */
  disable(): void {
    this.unmerge();
    for (const entry of this.#entries.values()) entry.hide();
  }

  /** Writes the values into the weights, exactly. @throws NumericsError with `safe`, if one is not finite. */
  merge(options: { safe?: boolean } = {}): void {
    if (options.safe) {
      tidy(() =>
        checkFinite(
          [...this.#entries].map(([name, { values }]) => [name, values.values()] as const),
          'adapter',
        ),
      );
    }
    for (const entry of this.#entries.values()) entry.merge();
  }

  /**
   * Puts the original values back, exactly.
   * @throws ConfigError if the merged weights have been changed since, as by merging another adapter.
   */
  unmerge(): void {
    for (const [name, entry] of this.#entries) entry.checkMerged(name);
    for (const entry of this.#entries.values()) entry.unmerge();
  }

  mergeAndUnload(options: { safe?: boolean } = {}): AnyModule {
    this.merge(options);
    return this.#remove();
  }

  unload(): AnyModule {
    this.unmerge();
    return this.#remove();
  }

  #remove(): AnyModule {
    for (const entry of this.#entries.values()) entry.release();
    this.#entries.clear();
    thawBase(this.model, this);
    return this.model;
  }

  /**
   * The progressive step: entries that have reached the threshold freeze at their values, and only those still below it go
   * on training, with the optimizer's moments as they are.
   */
  reselect(): void {
    for (const { values } of this.#entries.values()) values.reselect();
  }

  /**
   * Draws the matrix of the low-rank term for the next step, or takes the one of that name, and decomposes it: outside of
   * `jit`, in `O(m n min(m, n))` (5 s for 512 x 512 on two shared cores).
   * @returns its name and nuclear norm, or undefined where there is no matrix of the least size, or the one that was drawn
   *   has too few entries that train: the term is then 0.
   * @throws ConfigError if there is no such matrix.
   */
  prepareRankTerm(matrix: Rng | string): { name: string; nuclearNorm: number } | undefined {
    if (this.#rankMatrix !== undefined) this.#entries.get(this.#rankMatrix)?.values.clearRankTerm();
    this.#rankMatrix = undefined;
    if (typeof matrix === 'string' && !this.#matrices.includes(matrix)) {
      const names = this.#matrices.join(', ') || 'none';
      throw new ConfigError(`'${matrix}' is no matrix of the low-rank term; these are: ${names}.`);
    }
    if (this.#matrices.length === 0) return undefined;
    const name = typeof matrix === 'string' ? matrix : this.#matrices[matrix.integer(0, this.#matrices.length)];
    const values = this.#entries.get(name)?.values;
    if (values === undefined || values.trainingCount <= this.config.minMaskEntries) return undefined;
    this.#rankMatrix = name;
    return { name, nuclearNorm: values.prepareRankTerm() };
  }

  /**
   * `lambdaRank * |P * mask|_*` of the matrix prepared last, to be added to the loss. Its value and gradient,
   * `lambdaRank (U V^T) * mask`, are those of the values at which it was prepared: prepare it before each step. It is linear
   * in the values, with the decomposition as a constant, so that it runs under `jit`.
   */
  rankTerm(): Scalar {
    return tidy(() => {
      const terms = [...this.#entries.values()].flatMap(({ values }) => values.rankTerm() ?? []);
      return terms.length === 0 ? scalar(0) : mul(addN(terms), this.config.lambdaRank);
    });
  }

  /**
   * For the `callbacks` of `train`: prepares the low-rank term for each step, unless `lambdaRank` is 0, and reselects after
   * `progressiveStep`. A run that is resumed draws the same matrices.
   */
  callback(rng: Rng = new Rng(0)): { onEvent(event: { readonly type: string; readonly step: number }): void } {
    return {
      onEvent: ({ type, step }) => {
        if (type === 'step' && step === this.config.progressiveStep) this.reselect();
        if (type === 'step' || type === 'start') this.prepareRankTerm(rng.fork(step));
      },
    };
  }

  /** What has become of each parameter. It decomposes every matrix. */
  sparsityReport(): SaraSparsity[] {
    return [...this.#entries].map(([name, entry]) => entry.sparsity(name));
  }

  /** The values under their names in a file: new tensors that the caller disposes of. */
  stateDict(): Map<string, Tensor> {
    return new Map([...this.#entries].map(([name, { values }]) => [fileName(name), values.values()]));
  }

  /**
   * Copies what `stateDict` gave into the adapter, which is then unmerged; all its entries train.
   * @throws FormatError listing all that does not fit: names, shapes, types and values that are not finite.
   */
  loadStateDict(tensors: ReadonlyMap<string, Tensor>, source = 'The adapter', problems: readonly string[] = []): void {
    const wrong = [...tensors].filter(([, values]) => values.dtype !== 'float32' || !isAllFinite(values));
    assignTensors(
      new Map([...this.#entries].map(([name, { values }]) => [fileName(name), values.sara_values])),
      tensors,
      { source, problems: [...problems, ...wrong.map(([name]) => `${name} has values that are not finite numbers`)] },
    );
    for (const { values } of this.#entries.values()) values.reset();
    this.unmerge();
  }

  /**
   * Writes the adapter as `peft` lays its own out, with `peft_type` SARA: the values alone, and in the config the threshold
   * with a count and a checksum for each parameter. It loads onto exactly the base that it was made for.
   */
  async save(dir: string, options: { baseModel?: string } = {}): Promise<void> {
    const base = Object.fromEntries([...this.#entries].map(([name, entry]) => [name, entry.base]));
    const file: SaraFile = { ...this.config, threshold: this.threshold, base };
    const tensors = this.stateDict();
    try {
      await writeAdapterFiles(dir, ownConfig('SARA', file, FIELDS, options.baseModel), tensors);
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }

  /**
   * Takes over the values of the adapter in `dir`, which must have the entries of this one; `loadSara` attaches any.
   * @throws FormatError naming the file and all that is wrong in it; the adapter is then as before.
   */
  async load(dir: string): Promise<void> {
    const { base } = await readSaraFile(dir);
    const own = new Map([...this.#entries].map(([name, entry]) => [name, entry.base]));
    const { tensors, source } = await readAdapterTensors(dir);
    try {
      this.loadStateDict(tensors, source, baseProblems(base, own));
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }
}

const fileName = (name: string): string => `${PREFIX}${name}.sara_values`;

/**
 * Attaches the SaRA adapter in `dir` to the model that it was made for.
 * @throws FormatError naming the file and all that is wrong in it; the model is then as before.
 */
export async function loadSara(model: AnyModule, dir: string, options: AttachOptions = {}): Promise<SaraModel> {
  const { config, source } = await readSaraFile(dir);
  return loadInto(
    asFormatError(source, () => new SaraModel(model, config, options)),
    dir,
  );
}
