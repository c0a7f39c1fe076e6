import { Conv2d, EqualizedLinear, kaimingUniform_, Linear, SynthesisLayer, ToRGBLayer } from '@ashlar/nn';
import {
  type AnyModule,
  add,
  ConfigError,
  checkFinite,
  clone,
  Module,
  matMul,
  mul,
  Parameter,
  type Parametrization,
  Rng,
  reshape,
  type Tensor,
  tidy,
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
import { refuseTied } from './adapter-layer.ts';
import { checkTargets, isRank, refuse } from './check-options.ts';
import { freezeBase, thawBase } from './frozen-base.ts';
import type { TargetOptions } from './match.ts';
import type { AdapterDescription, AdapterHandle, AttachOptions, Method } from './method.ts';
import { targetPaths, wholeParameters, withTargets } from './targets.ts';
import { countNumbers, fractionOf, trainingOf } from './trainable.ts';
import { TrainedBase } from './trained-base.ts';

export interface LowRankConvConfig extends TargetOptions {
  /** A kernel of `k x k` gets an update of rank `r k`. Default 1. */
  r?: number;
  /** The update is scaled by `loraAlpha / r`. Default 1. */
  loraAlpha?: number;
  /** Whether the biases and the noise strengths of the adapted layers train too. Default true. */
  trainBiases?: boolean;
}

const DEFAULTS = { r: 1, loraAlpha: 1, trainBiases: true } as const;

export type CheckedLowRankConvConfig = LowRankConvConfig & Required<Pick<LowRankConvConfig, keyof typeof DEFAULTS>>;

/** Fills in the defaults and checks every option. @throws ConfigError naming it, what it was and what it may be. */
export function checkLowRankConvConfig(config: LowRankConvConfig): CheckedLowRankConvConfig {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const full = { ...DEFAULTS, ...given } as CheckedLowRankConvConfig;
  if (!isRank(full.r)) refuse('r', full.r, 'a positive integer');
  if (!Number.isFinite(full.loraAlpha)) refuse('loraAlpha', full.loraAlpha, 'a finite number');
  if (typeof full.trainBiases !== 'boolean') refuse('trainBiases', full.trainBiases, 'true or false');
  checkTargets(full);
  return full;
}

/** What it sits on: layers that use their weight in ways of their own. */
type LowRankBase = Linear | EqualizedLinear | Conv2d | SynthesisLayer | ToRGBLayer;

const isAdaptable = (module: AnyModule): module is LowRankBase & AnyModule =>
  [Linear, EqualizedLinear, Conv2d, SynthesisLayer, ToRGBLayer].some((kind) => module instanceof kind);

/**
 * The low-rank update of one weight, `[out, in]` or `[out, in, k, k]`: `W + s reshape(B A)`, with `A` `[r k, in k k]` and `B`
 * `[out, r k]`.
 */
export class LowRankUpdate extends Module<[Tensor], Tensor> implements Parametrization {
  /** Kaiming-uniform with a = sqrt(5). */
  readonly lora_A: Parameter;
  /** From zero. */
  readonly lora_B: Parameter;
  readonly scaling: number;
  enabled = true;

  /** @param scaling `s`. */
  constructor(shape: readonly number[], r: number, scaling: number, rng: Rng) {
    super();
    const [out, , k = 1] = shape;
    const rank = r * k;
    const shapeA = [rank, shape.slice(1).reduce((n, size) => n * size, 1)];
    this.lora_A = new Parameter({ shape: shapeA, init: () => kaimingUniform_({ a: Math.sqrt(5) })(shapeA, rng) });
    this.lora_B = new Parameter(zeros([out, rank]));
    this.scaling = scaling;
  }

  override signature(): string {
    return `${super.signature()}${this.enabled ? '' : ' off'}`;
  }

  /** `s reshape(B A)`, `[out, in]` or `[out, in, k, k]`. */
  delta(shape: readonly number[]): Tensor {
    return tidy(() => reshape(mul(matMul(this.lora_B.value, this.lora_A.value), this.scaling), [...shape]));
  }

  parametrize(weight: Tensor): Tensor {
    return this.enabled ? add(weight, this.delta(weight.shape)) : clone(weight);
  }

  override forward(weight: Tensor): Tensor {
    return this.parametrize(weight);
  }
}

/**
 * Low-rank updates of convolutions and style layers, added to the weight before the layer uses it, so that StyleGAN2's
 * modulation and demodulation act on the update too: `W' = W + (alpha / r) reshape(B A)`, of rank `r k` for kernels of `k x k`.
 * On a layer with an equalized learning rate its gain multiplies `W` alone: `y = x (g W)^T + (alpha / r) x A^T B^T`. The
 * model is unchanged at the start. Without `targetModules` all `Conv2d`, `Linear`, `EqualizedLinear`, `SynthesisLayer` and
 * `ToRGBLayer` of the model are adapted. On a plain `Conv2d` it equals LoRA of rank `r k` and alpha `alpha k`.
 *
 * Source: Qi et al. 2023, My3DGen, arXiv 2307.05468; github.com/luchaoqi/my3dgen.
 * @throws ConfigError for options out of range, if no module matches, or if a weight is tied.
 */
export function lowRankConv(config: LowRankConvConfig = {}): Method<LowRankConvModel> {
  const checked = checkLowRankConvConfig(config);
  return { attach: (model, options) => new LowRankConvModel(model, checked, options) };
}

interface AdaptedLayer {
  readonly base: LowRankBase;
  readonly update: LowRankUpdate;
  /** The weight before merging. */
  original?: Tensor;
}

/** The low-rank updates of a model. While they are attached the base is frozen; `unload` gives it back as it was. */
export class LowRankConvModel implements AdapterHandle {
  readonly model: AnyModule;
  readonly name: string;
  readonly config: CheckedLowRankConvConfig;
  readonly #layers = new Map<string, AdaptedLayer>();
  readonly #trainedBase = new TrainedBase();

  constructor(model: AnyModule, config: LowRankConvConfig, options: AttachOptions = {}) {
    this.model = model;
    this.name = options.name ?? 'default';
    this.config = checkLowRankConvConfig(config);
    const rng = (options.rng ?? new Rng(0)).fork(this.name);
    const all = [...model.namedModules()].filter(([, module]) => isAdaptable(module)).map(([path]) => path);
    const targets = withTargets(model, { targetModules: all, ...this.config });
    const paths = targetPaths(model, targets, isAdaptable);
    const bases = paths.map((path) => [path, model.getSubmodule(path) as LowRankBase] as const);
    refuseTied(
      model,
      bases.map(([path, { weight }]) => [path, weight] as const),
    );
    freezeBase(model, this);
    const { r, loraAlpha, trainBiases } = this.config;
    const whole = wholeParameters(model, targets, paths);
    for (const [path, base] of bases) {
      const gain = base instanceof EqualizedLinear ? base.weightGain : 1;
      const update = new LowRankUpdate(base.weight.shape, r, loraAlpha / r / gain, rng.fork(path));
      base.weight.parametrizations.push(update);
      this.#layers.set(path, { base, update });
      for (const [name, member] of trainBiases ? Object.entries(base) : []) {
        if (member instanceof Parameter && member !== base.weight) whole.set(`${path}.${name}`, member);
      }
    }
    this.#trainedBase.add(this.name, whole);
    this.#trainedBase.show(this.name);
    for (const parameter of this.#own().values()) parameter.requiresGrad = true;
  }

  /** The updates by path of their layer. */
  get layers(): ReadonlyMap<string, LowRankUpdate> {
    return new Map([...this.#layers].map(([path, { update }]) => [path, update]));
  }

  /** All that trains under its name in a file, less the prefix. */
  #own(): Map<string, Parameter> {
    const own = new Map<string, Parameter>();
    for (const [path, { update }] of this.#layers) {
      for (const [name, parameter] of update.namedParameters(path)) own.set(name, parameter);
    }
    for (const [name, parameter] of this.#trainedBase.parameters(this.name)) own.set(name, parameter);
    return own;
  }

  parameters(): Map<string, Parameter> {
    return trainingOf(this.model, this.#own().values());
  }

  get trainableFraction(): number {
    return fractionOf(this.model, this.parameters());
  }

  describe(): AdapterDescription[] {
    return [...this.#layers].map(([path, { base, update }]) => ({
      path,
      adapter: this.name,
      layer: base.constructor.name,
      r: update.lora_A.shape[0],
      scaling: this.config.loraAlpha / this.config.r,
      parameters: countNumbers(update.parameters()),
      baseParameters: base.weight.size,
    }));
  }

  /** Uses the updates again after `disable`. */
  enable(): void {
    for (const { update } of this.#layers.values()) update.enabled = true;
    this.#trainedBase.show(this.name);
  }

  /** Runs the base alone until `enable`; merged updates are unmerged. */
  disable(): void {
    this.unmerge();
    for (const { update } of this.#layers.values()) update.enabled = false;
    this.#trainedBase.show(undefined);
  }

  /**
   * Writes `W'` into the base weights.
   * @throws ConfigError if a weight has other parametrizations; with `safe`, NumericsError if one is not finite.
   */
  merge(options: { safe?: boolean } = {}): void {
    const open = [...this.#layers].filter(([, { original }]) => original === undefined);
    for (const [path, { base }] of open) {
      if (base.weight.parametrizations.length === 1) continue;
      throw new ConfigError(`The weight of '${path}' has other parametrizations; merge or unload these first.`);
    }
    if (options.safe) for (const [path, { update }] of open) checkFinite(stored(path, update), 'adapter');
    for (const [, layer] of open) {
      const { weight } = layer.base;
      const merged = tidy(() => add(weight.stored, layer.update.delta(weight.shape)));
      weight.parametrizations.length = 0;
      layer.original = weight.exchange(merged);
    }
  }

  /** Puts the weights back: exact. */
  unmerge(): void {
    for (const layer of this.#layers.values()) {
      if (layer.original === undefined) continue;
      layer.base.weight.assign(layer.original);
      layer.base.weight.parametrizations.push(layer.update);
      layer.original = undefined;
    }
  }

  mergeAndUnload(options: { safe?: boolean } = {}): AnyModule {
    this.merge(options);
    for (const layer of this.#layers.values()) layer.original?.dispose();
    this.#trainedBase.keep(this.name);
    return this.#remove();
  }

  unload(): AnyModule {
    this.unmerge();
    return this.#remove();
  }

  #remove(): AnyModule {
    for (const parameter of this.#own().values()) parameter.requiresGrad = false;
    for (const { base, update } of this.#layers.values()) {
      const { parametrizations } = base.weight;
      const place = parametrizations.indexOf(update);
      if (place >= 0) parametrizations.splice(place, 1);
      update.dispose();
    }
    this.#layers.clear();
    this.#trainedBase.delete(this.name);
    thawBase(this.model, this);
    return this.model;
  }

  /** What trains under its names in a file: new tensors that the caller disposes of. */
  stateDict(): Map<string, Tensor> {
    return this.#trainedBase.with(
      this.name,
      () => new Map([...this.#own()].map(([name, { stored }]) => [`${PREFIX}${name}`, clone(stored)])),
    );
  }

  /** Copies what `stateDict` gave into the adapter. @throws FormatError listing all that does not fit. */
  loadStateDict(tensors: ReadonlyMap<string, Tensor>, source = 'The adapter'): void {
    this.unmerge();
    const own = new Map([...this.#own()].map(([name, parameter]) => [`${PREFIX}${name}`, parameter]));
    this.#trainedBase.with(this.name, () => assignTensors(own, tensors, { source }));
  }

  /** Writes the adapter as `peft` lays its own out, with `peft_type` LOWRANKCONV. */
  async save(dir: string, options: { baseModel?: string } = {}): Promise<void> {
    const tensors = this.stateDict();
    const config = { ...this.config, targetModules: [...this.#layers.keys()] };
    try {
      await writeAdapterFiles(dir, ownConfig('LOWRANKCONV', config, FIELDS, options.baseModel), tensors);
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }

  /**
   * Takes over the numbers of the adapter in `dir`, which must have the layers and ranks of this one; `loadLowRankConv`
   * attaches any.
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
 * Attaches the adapter in `dir`.
 * @throws FormatError naming the file and all that is wrong in it; the model is then as before.
 */
export async function loadLowRankConv(
  model: AnyModule,
  dir: string,
  options: AttachOptions = {},
): Promise<LowRankConvModel> {
  const handle = new LowRankConvModel(model, await readConfig(dir), options);
  try {
    await handle.load(dir);
  } catch (error) {
    handle.unload();
    throw error;
  }
  return handle;
}

const FIELDS: Readonly<Record<string, keyof LowRankConvConfig>> = {
  ...TARGET_FIELDS,
  r: 'r',
  lora_alpha: 'loraAlpha',
  train_biases: 'trainBiases',
};

async function readConfig(dir: string): Promise<CheckedLowRankConvConfig> {
  const { json, source } = await readAdapterConfig(dir);
  return namingSource(source, () =>
    checkLowRankConvConfig(ownOptions<LowRankConvConfig>('LOWRANKCONV', json, FIELDS, source)),
  );
}

function* stored(path: string, update: LowRankUpdate): Generator<[string, Tensor]> {
  for (const [name, parameter] of update.namedParameters(path)) yield [name, parameter.stored];
}
