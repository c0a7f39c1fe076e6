import { Conv1D, Conv2d, Embedding, Linear } from '@ashlar/nn';
import {
  type AnyModule,
  add,
  Buffer,
  ConfigError,
  checkFinite,
  gatherRows,
  matMul,
  mul,
  orthogonal,
  Parameter,
  Rng,
  replaceModule,
  reshape,
  slice,
  sub,
  sum,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tidy,
  tile,
  transpose,
  zeros,
} from '@ashlar/tensor';
import {
  assignTensors,
  namingSource,
  ownConfig,
  ownOptions,
  PREFIX,
  readAdapterConfig,
  readAdapterTensors,
  TARGET_FIELDS,
  writeAdapterFiles,
} from './adapter-files.ts';
import { AdapterLayer, refuseTied } from './adapter-layer.ts';
import { cachedSvd, type SvdAlgorithm, svdAlgorithm } from './cached-svd.ts';
import { checkPattern, checkTargets, isRank, refuse } from './check-options.ts';
import { freezeBase, thawBase } from './frozen-base.ts';
import { patternKey, type TargetOptions } from './match.ts';
import type { AdapterDescription, AdapterHandle, AttachOptions, Method } from './method.ts';
import { targetPaths, wholeParameters, withTargets } from './targets.ts';
import { TrainedBase } from './trained-base.ts';

/** What counts as the energy of singular values: their squares, or the values themselves. */
export type EnergyKind = 'squared' | 'linear';

export interface SVFitConfig extends TargetOptions {
  /** Singular values that train per layer. Default all, `min(out, in)`; fewer where the weight has not that rank. */
  r?: number;
  /** In place of `r`: as few as hold this share of the energy, in (0, 1]; the paper keeps 0.99. */
  energy?: number;
  /** Default 'squared'. */
  energyKind?: EnergyKind;
  /** Ranks of modules whose name ends with the key (a regular expression); the first that matches counts. */
  rankPattern?: Readonly<Record<string, number>>;
  /**
   * Which directions: the leading ones (default), or for ablations the last ones or random orthonormal ones, which have
   * nothing to do with the weight.
   */
  selection?: 'top' | 'bottom' | 'random';
  /** What trains: 'sigma' (default), or 'scale': `c` in `sigma = S (1 + c)`, from 0. */
  parametrization?: 'sigma' | 'scale';
  /**
   * Default 'auto': randomized for the leading quarter at most of weights larger than 512 x 512, else exact. With `energy`
   * and with the last directions it is exact, as they need the whole spectrum.
   */
  svd?: 'auto' | SvdAlgorithm;
  /** A folder that keeps the decompositions by hash of the weight. Default none. Node only. */
  cacheDir?: string;
  /** Of random directions. Default 0. */
  seed?: number;
}

const DEFAULTS = {
  energyKind: 'squared',
  rankPattern: {},
  selection: 'top',
  parametrization: 'sigma',
  svd: 'auto',
  seed: 0,
} as const;

export type CheckedSVFitConfig = SVFitConfig & Required<Pick<SVFitConfig, keyof typeof DEFAULTS>>;

const CHOICES = {
  energyKind: ['squared', 'linear'],
  selection: ['top', 'bottom', 'random'],
  parametrization: ['sigma', 'scale'],
  svd: ['auto', 'exact', 'randomized'],
} as const;

/** Fills in the defaults and checks every option. @throws ConfigError naming it, what it was and what it may be. */
export function checkSVFitConfig(config: SVFitConfig): CheckedSVFitConfig {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const full = { ...DEFAULTS, ...given } as CheckedSVFitConfig;
  const { r, energy, selection, cacheDir, seed } = full;
  if (r !== undefined && !isRank(r)) refuse('r', r, 'a positive integer');
  if (energy !== undefined) checkEnergy(energy);
  if (r !== undefined && energy !== undefined) throw new ConfigError('r and energy both set the rank; give one.');
  for (const option of Object.keys(CHOICES) as (keyof typeof CHOICES)[]) {
    const choices: readonly string[] = CHOICES[option];
    if (!choices.includes(full[option])) refuse(option, full[option], `one of ${choices.join(', ')}`);
  }
  if (cacheDir !== undefined && typeof cacheDir !== 'string') refuse('cacheDir', cacheDir, 'a folder');
  if (!Number.isSafeInteger(seed)) refuse('seed', seed, 'an integer');
  checkTargets(full);
  checkPattern('rankPattern', full.rankPattern, isRank, 'a positive integer');
  if (energy === undefined && selection !== 'bottom') return full;
  if (full.svd === 'randomized') refuse('svd', full.svd, "'exact' with energy or selection 'bottom'");
  return { ...full, svd: 'exact' };
}

function checkEnergy(energy: number): void {
  if (!(energy > 0 && energy <= 1)) refuse('energy', energy, 'in (0, 1]');
}

/**
 * The smallest `r` with `sum_{j <= r} e_j / sum e >= tau`, where `e = S^2`, or `S` for 'linear'.
 * @param singularValues descending.
 * @throws ConfigError unless `tau` is in (0, 1] and some value is not zero.
 */
export function rankForEnergy(singularValues: ArrayLike<number>, tau: number, kind: EnergyKind = 'squared'): number {
  checkEnergy(tau);
  let total = 0;
  const sums = Array.from(singularValues, (value) => {
    total += kind === 'squared' ? value ** 2 : value;
    return total;
  });
  if (total === 0) throw new ConfigError('All singular values are zero: there is no energy to hold.');
  return sums.findIndex((held) => held >= tau * total) + 1;
}

/** What SVFit sits on. */
export type SVFitBase = Linear | Conv1D | Conv2d | Embedding;

const isAdaptable = (base: AnyModule): base is SVFitBase =>
  base instanceof Linear || base instanceof Conv1D || base instanceof Conv2d || base instanceof Embedding;

/** Frozen directions and the strengths along them: `u [rows, r]`, `s [r]`, `v [columns, r]`. */
interface Directions {
  u: Tensor2D;
  s: Tensor1D;
  v: Tensor2D;
}

/**
 * A layer whose singular values train: with the weight as a matrix `W = U S V^T` (`[out, in]`; kernels flattened to
 * `[out, in kh kw]`, embeddings `[vocab, dim]`) and its directions `U_r`, `V_r` frozen,
 * `y = W x + b + U_r ((sigma - S_r) * V_r^T x)`, so that `W(sigma) = W + U_r diag(sigma - S_r) V_r^T`.
 */
export class SVFitLayer extends AdapterLayer<SVFitBase> {
  /** `[r]`, from `S_r`; or with the other parametrization `svfit_scale`, `c [r]` in `sigma = S (1 + c)`, from zero. */
  readonly svfit_sigma?: Parameter;
  readonly svfit_scale?: Parameter;
  readonly svfit_u: Buffer;
  readonly svfit_s: Buffer;
  readonly svfit_v: Buffer;
  #enabled = true;
  #merged = false;

  /** Takes ownership of the directions. */
  constructor(base: SVFitBase, { u, s, v }: Directions, parametrization: 'sigma' | 'scale' = 'sigma') {
    super(base);
    [this.svfit_u, this.svfit_s, this.svfit_v] = [u, s, v].map((tensor) => new Buffer(tensor, { persistent: false }));
    if (parametrization === 'sigma') this.svfit_sigma = new Parameter(s.clone());
    else this.svfit_scale = new Parameter(zeros(s.shape));
  }

  override signature(): string {
    return `${super.signature()}[${this.#enabled ? '' : 'off'}${this.#merged ? 'merged' : ''}]`;
  }

  get r(): number {
    return this.svfit_s.size;
  }

  /** What trains, by its name in a file. */
  get trained(): [name: 'svfit_sigma' | 'svfit_scale', parameter: Parameter] {
    const { svfit_sigma, svfit_scale } = this;
    return svfit_sigma === undefined ? ['svfit_scale', svfit_scale as Parameter] : ['svfit_sigma', svfit_sigma];
  }

  /** Turns the adapter on or off; it must not be merged. */
  set enabled(enabled: boolean) {
    this.#enabled = enabled;
  }

  get merged(): boolean {
    return this.#merged;
  }

  /** `sigma - S_r`. */
  #change(): Tensor {
    const s = this.svfit_s.stored;
    return this.svfit_sigma === undefined
      ? mul(s, (this.svfit_scale as Parameter).value)
      : sub(this.svfit_sigma.value, s);
  }

  /** `U_r diag(sigma - S_r) V_r^T` in the layout of the base weight. The caller disposes of it. */
  deltaWeight(): Tensor {
    return tidy(() => {
      const delta = matMul(mul(this.svfit_u.stored, this.#change()), this.svfit_v.stored, false, true);
      return this.base_layer instanceof Conv1D ? transpose(delta) : reshape(delta, this.base_layer.weight.shape);
    });
  }

  override forward(x: Tensor): Tensor {
    const y = this.base_layer.apply(x);
    return this.#enabled && !this.#merged ? add(y, this.#adaptation(x)) : y;
  }

  #adaptation(x: Tensor): Tensor {
    const [u, v] = [this.svfit_u.stored, this.svfit_v.stored];
    if (this.base_layer instanceof Conv2d) return this.#convolution(x, this.base_layer);
    if (this.base_layer instanceof Embedding) {
      const rows = mul(gatherRows(u, reshape(x, [-1])), this.#change());
      return reshape(matMul(rows, v, false, true), [...x.shape, v.shape[0]]);
    }
    const along = mul(matMul(reshape(x, [-1, v.shape[0]]), v), this.#change());
    return reshape(matMul(along, u, false, true), [...x.shape.slice(0, -1), u.shape[0]]);
  }

  /** `V_r` as kernels on every group of channels, then `U_r` at every place. */
  #convolution(x: Tensor, base: Conv2d): Tensor {
    const { r } = this;
    const { groups, outChannels } = base;
    const kernels = reshape(transpose(this.svfit_v.stored), [r, ...base.weight.shape.slice(1)]);
    const along = base.convolve(x, tile(kernels, [groups, 1, 1, 1]));
    const [batch, , height, width] = along.shape as number[];
    const scaled = mul(reshape(along, [batch, groups, r, height * width]), reshape(this.#change(), [r, 1]));
    const u = reshape(this.svfit_u.stored, [groups, outChannels / groups, r]);
    return reshape(matMul(u, scaled), [batch, outChannels, height, width]);
  }

  /**
   * Adds the delta to the base weight; `forward` then runs the base alone.
   * @param safe refuse a result that is not finite, leaving the weight as it was.
   */
  merge(safe = false): void {
    if (this.#merged) return;
    const { weight } = this.base_layer;
    if (weight.parametrizations.length > 0) {
      throw new ConfigError('The base weight has parametrizations; merge these first.');
    }
    const merged = tidy(() => {
      const sum = add(weight.stored, this.deltaWeight());
      if (safe) checkFinite([['weight', sum]], 'merged weight of adapter');
      return sum;
    });
    weight.assign(merged);
    this.#merged = true;
  }

  /** Takes the delta out of the base weight again, exact within float32 rounding. */
  unmerge(): void {
    if (!this.#merged) return;
    const { weight } = this.base_layer;
    weight.assign(tidy(() => sub(weight.stored, this.deltaWeight())));
    this.#merged = false;
  }

  /** Disposes of what the layer has besides its base. */
  release(): void {
    for (const slot of [this.svfit_sigma, this.svfit_scale, this.svfit_u, this.svfit_s, this.svfit_v]) slot?.dispose();
  }
}

/**
 * SVFit: the singular values of pretrained weights train, their singular vectors stay. `r` numbers per layer, the
 * model unchanged at the start, merged without a trace. It re-weights what a layer does and makes nothing new: where new
 * features are needed LoRA goes further. Train with a rate 10 to 50 times LoRA's (1e-3 ... 1e-1) and without weight decay,
 * which would shrink the pretrained map.
 *
 * Setting it up decomposes every weight: see `svd` and `cacheDir`. Nothing is drawn from `AttachOptions.rng`.
 *
 * Source: Sun et al. 2024, arXiv 2409.05926.
 * @throws ConfigError for options out of range, an `r` above `min(out, in)`, a weight of zeros, or a layer that carries
 *   another adapter; NumericsError for a weight that is not finite.
 */
export function svfit(config: SVFitConfig = {}): Method<SVFitModel> {
  const checked = checkSVFitConfig(config);
  return { attach: (model, options) => new SVFitModel(model, checked, options) };
}

/** The SVFit adapter of a model. While it is attached the base is frozen; `unload` gives the model back as it was. */
export class SVFitModel implements AdapterHandle {
  readonly model: AnyModule;
  readonly name: string;
  readonly config: CheckedSVFitConfig;
  readonly #layers = new Map<string, SVFitLayer>();
  readonly #trainedBase = new TrainedBase();

  constructor(model: AnyModule, config: SVFitConfig, options: AttachOptions = {}) {
    this.model = model;
    this.name = options.name ?? 'default';
    this.config = withTargets(model, checkSVFitConfig(config));
    const paths = targetPaths(model, this.config, isAdaptable);
    const whole = wholeParameters(model, this.config, paths);
    try {
      for (const path of paths) this.#layers.set(path, this.#layerFor(path));
    } catch (error) {
      for (const layer of this.#layers.values()) layer.release();
      throw error;
    }
    freezeBase(model, this);
    for (const [path, layer] of this.#layers) replaceModule(model, path, () => layer);
    this.#trainedBase.add(this.name, whole);
    this.#trainedBase.show(this.name);
    for (const parameter of this.#own().values()) parameter.requiresGrad = true;
  }

  #layerFor(path: string): SVFitLayer {
    const base = this.model.getSubmodule(path) as SVFitBase;
    const matrix = tidy((): Tensor2D => {
      const { stored } = base.weight;
      return base instanceof Conv1D ? transpose(stored as Tensor2D) : reshape(stored, [stored.shape[0], -1]);
    });
    try {
      return new SVFitLayer(base, this.#directions(path, matrix), this.config.parametrization);
    } finally {
      matrix.dispose();
    }
  }

  #directions(path: string, matrix: Tensor2D): Directions {
    const { r, energy, energyKind, rankPattern, selection, svd, cacheDir, seed } = this.config;
    const [rows, columns] = matrix.shape;
    const full = Math.min(rows, columns);
    const asked = rankPattern[patternKey(Object.keys(rankPattern), path)] ?? r;
    if (asked !== undefined && asked > full) {
      throw new ConfigError(`r is ${asked}; '${path}' has min(out, in) = ${full} singular values.`);
    }
    if (selection === 'random') return randomDirections(matrix, asked ?? full, new Rng(seed).fork(path));
    const algorithm = svd === 'auto' ? svdAlgorithm(matrix.shape, asked ?? full) : svd;
    const { u, s, vt } = cachedSvd(matrix, asked ?? full, algorithm, cacheDir);
    try {
      const values = s.dataSync<'float32'>();
      // Behind the numerical rank the directions are arbitrary.
      const rank = values.filter((value) => value > values[0] * Math.max(rows, columns) * 2 ** -23).length;
      if (rank === 0) throw new ConfigError(`The weight of '${path}' is zero: there is no direction to scale.`);
      const wanted = asked ?? (energy === undefined ? full : rankForEnergy(values, energy, energyKind));
      const count = Math.min(wanted, rank);
      if (count < wanted) console.warn(`SVFit: '${path}' has rank ${rank}; r is ${rank} there, not ${wanted}.`);
      const start = selection === 'bottom' ? rank - count : 0;
      return {
        u: slice(u, [0, start], [rows, count]),
        s: slice(s, [start], [count]),
        v: tidy(() => transpose(slice(vt, [start, 0], [count, columns]))),
      };
    } finally {
      for (const factor of [u, s, vt]) factor.dispose();
    }
  }

  /** The adapted layers by path. */
  get layers(): ReadonlyMap<string, SVFitLayer> {
    return this.#layers;
  }

  /** All that trains under its name in a file, less the prefix. */
  #own(): Map<string, Parameter> {
    const own = new Map<string, Parameter>();
    for (const [path, { trained }] of this.#layers) own.set(`${path}.${trained[0]}`, trained[1]);
    for (const [name, parameter] of this.#trainedBase.parameters(this.name)) own.set(name, parameter);
    return own;
  }

  parameters(): Map<string, Parameter> {
    const own = new Set(this.#own().values());
    return new Map([...this.model.trainableParameters()].filter(([, parameter]) => own.has(parameter)));
  }

  get trainableFraction(): number {
    const count = (parameters: Iterable<Parameter>): number => [...parameters].reduce((n, { size }) => n + size, 0);
    return count(this.parameters().values()) / count(this.model.parameters());
  }

  describe(): AdapterDescription[] {
    return [...this.#layers].map(([path, layer]) => ({
      path,
      adapter: this.name,
      layer: layer.base_layer.constructor.name,
      r: layer.r,
      scaling: 1,
      parameters: layer.r,
      baseParameters: layer.base_layer.weight.size,
    }));
  }

  /** Uses the adapter again after `disable`. */
  enable(): void {
    for (const layer of this.#layers.values()) layer.enabled = true;
    this.#trainedBase.show(this.name);
  }

  /** Runs the base alone until `enable`; a merged adapter is unmerged. */
  disable(): void {
    this.unmerge();
    for (const layer of this.#layers.values()) layer.enabled = false;
    this.#trainedBase.show(undefined);
  }

  /**
   * Writes `W(sigma)` into the base weights; `unmerge` takes it out again, exact within float32 rounding.
   * @throws ConfigError if an adapted weight is tied to another module; with `safe`, NumericsError if one is not finite.
   */
  merge(options: { safe?: boolean } = {}): void {
    refuseTied(
      this.model,
      [...this.#layers].map(([path, layer]) => [path, layer.base_layer.weight] as const),
    );
    try {
      for (const layer of this.#layers.values()) layer.merge(options.safe);
    } catch (error) {
      this.unmerge();
      throw error;
    }
  }

  unmerge(): void {
    for (const layer of this.#layers.values()) layer.unmerge();
  }

  mergeAndUnload(options: { safe?: boolean } = {}): AnyModule {
    this.merge(options);
    this.#trainedBase.keep(this.name);
    return this.#remove();
  }

  unload(): AnyModule {
    this.unmerge();
    return this.#remove();
  }

  #remove(): AnyModule {
    for (const parameter of this.#own().values()) parameter.requiresGrad = false;
    for (const [path, layer] of this.#layers) {
      replaceModule(this.model, path, () => layer.base_layer);
      layer.release();
    }
    this.#layers.clear();
    this.#trainedBase.delete(this.name);
    thawBase(this.model, this);
    return this.model;
  }

  /**
   * The trained numbers, and `svfit_s`, the strengths that they start from, under their names in a file: new tensors that
   * the caller disposes of.
   */
  stateDict(): Map<string, Tensor> {
    return this.#trainedBase.with(this.name, () => {
      const tensors = new Map([...this.#own()].map(([name, { stored }]) => [`${PREFIX}${name}`, stored.clone()]));
      for (const [path, { svfit_s }] of this.#layers) tensors.set(startName(path), svfit_s.stored.clone());
      return tensors;
    });
  }

  /**
   * Copies what `stateDict` gave into the adapter.
   * @throws FormatError listing all that does not fit: names, shapes, and layers whose singular values are not those that
   *   the adapter was made for.
   */
  loadStateDict(tensors: ReadonlyMap<string, Tensor>, source = 'The adapter'): void {
    this.unmerge();
    const starts = new Map([...this.#layers].map(([path, { svfit_s }]) => [startName(path), svfit_s.stored]));
    const foreign = [...starts].filter(([name, s]) => !isClose(tensors.get(name), s)).map(([name]) => name);
    const own = new Map([...this.#own()].map(([name, parameter]) => [`${PREFIX}${name}`, parameter]));
    this.#trainedBase.with(this.name, () =>
      assignTensors(own, tensors, {
        source,
        ignore: new Set(starts.keys()),
        problems:
          foreign.length > 0
            ? [`made for other base weights: ${foreign.join(', ')} are not theirs or are missing`]
            : [],
      }),
    );
  }

  /**
   * Writes the adapter as `peft` lays its own out, with `peft_type` SVFIT: the trained numbers alone, as the directions
   * come from the base weights, without which it cannot be loaded.
   */
  async save(dir: string, options: { baseModel?: string } = {}): Promise<void> {
    const tensors = this.stateDict();
    const ranks = [...this.#layers].map(([path, { r }]) => [`^${path.replaceAll('.', '\\.')}$`, r]);
    const config = { ...this.config, rankPattern: Object.fromEntries(ranks) };
    try {
      await writeAdapterFiles(dir, ownConfig('SVFIT', config, FIELDS, options.baseModel), tensors);
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }

  /**
   * Takes over the numbers of the adapter in `dir`, which must have the layers and ranks of this one; `loadSVFit` attaches
   * any.
   * @throws FormatError naming the file and all that is wrong in it; the adapter is then as before.
   */
  async load(dir: string): Promise<void> {
    await readConfig(dir);
    const { tensors, source } = await readAdapterTensors(dir);
    try {
      this.loadStateDict(tensors, source);
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }
}

/**
 * Attaches the SVFit adapter in `dir` to the model that it was made for.
 * @param options.cacheDir as in `SVFitConfig`.
 * @throws FormatError naming the file and all that is wrong in it; the model is then as before.
 */
export async function loadSVFit(
  model: AnyModule,
  dir: string,
  options: AttachOptions & { cacheDir?: string } = {},
): Promise<SVFitModel> {
  const handle = new SVFitModel(model, { ...(await readConfig(dir)), cacheDir: options.cacheDir }, options);
  try {
    await handle.load(dir);
  } catch (error) {
    handle.unload();
    throw error;
  }
  return handle;
}

const FIELDS: Readonly<Record<string, keyof SVFitConfig>> = {
  ...TARGET_FIELDS,
  r: 'r',
  energy: 'energy',
  energy_kind: 'energyKind',
  rank_pattern: 'rankPattern',
  selection: 'selection',
  parametrization: 'parametrization',
  svd: 'svd',
  seed: 'seed',
};

async function readConfig(dir: string): Promise<CheckedSVFitConfig> {
  const { json, source } = await readAdapterConfig(dir);
  return namingSource(source, () => checkSVFitConfig(ownOptions<SVFitConfig>('SVFIT', json, FIELDS, source)));
}

const startName = (path: string): string => `${PREFIX}${path}.svfit_s`;

/** Whether `given` is `s` within the rounding of other backends. */
function isClose(given: Tensor | undefined, s: Tensor): boolean {
  if (given?.size !== s.size) return false;
  const [a, b] = [given.dataSync(), s.dataSync()];
  return a.every((value, i) => Math.abs(value - b[i]) <= 1e-4 * Math.max(...b.map(Math.abs)));
}

/** `r` orthonormal directions on either side, and how strongly the matrix connects them: `s_j = u_j^T W v_j`. */
function randomDirections(matrix: Tensor2D, r: number, rng: Rng): Directions {
  const [rows, columns] = matrix.shape;
  const u = orthogonal([rows, r], { rng: rng.fork('u') }) as Tensor2D;
  const v = orthogonal([columns, r], { rng: rng.fork('v') }) as Tensor2D;
  return { u, v, s: tidy((): Tensor1D => sum(mul(u, matMul(matrix, v)), 0)) };
}
