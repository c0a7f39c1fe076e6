import { Conv1D } from '@ashlar/nn';
import {
  type AnyModule,
  type Parameter,
  replaceModule,
  reshape,
  type Tensor,
  type Tensor2D,
  tidy,
  transpose,
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
} from '../adapter-files.ts';
import { refuseTied } from '../adapter-layer.ts';
import { freezeBase, thawBase } from '../frozen-base.ts';
import type { AdapterDescription, AdapterHandle, AttachOptions, Method } from '../method.ts';
import { loadInto } from '../parametrized-model.ts';
import { targetPaths, wholeParameters, withTargets } from '../targets.ts';
import { fractionOf, trainingOf } from '../trainable.ts';
import { TrainedBase } from '../trained-base.ts';
import { type CheckedSVFitConfig, checkSVFitConfig, type SVFitConfig } from './config.ts';
import { chooseDirections } from './directions.ts';
import { isAdaptable, type SVFitBase, SVFitLayer } from './layer.ts';

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
      return new SVFitLayer(base, chooseDirections(path, matrix, this.config), this.config.parametrization);
    } finally {
      matrix.dispose();
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
    return trainingOf(this.model, this.#own().values());
  }

  get trainableFraction(): number {
    return fractionOf(this.model, this.parameters());
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
  return loadInto(new SVFitModel(model, { ...(await readConfig(dir)), cacheDir: options.cacheDir }, options), dir);
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
