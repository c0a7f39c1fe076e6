import {
  type AnyModule,
  ConfigError,
  checkFinite,
  clone,
  type Module,
  type Parameter,
  type Parametrization,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { assignTensors, PREFIX, readAdapterTensors, writeAdapterFiles } from './adapter-files.ts';
import { refuseTied } from './adapter-layer.ts';
import { freezeBase, thawBase } from './frozen-base.ts';
import type { AdapterDescription, AdapterHandle } from './method.ts';
import { countNumbers, fractionOf, trainingOf } from './trainable.ts';
import { TrainedBase } from './trained-base.ts';

/** A parametrization that an adapter puts on a weight and can switch off; its parameters train. */
export type AdapterParametrization = Module<[Tensor], Tensor> & Parametrization & { enabled: boolean };

/** A layer whose weight is in use through a parametrization. */
interface ParametrizedLayer<P extends AdapterParametrization> {
  readonly base: AnyModule & { weight: Parameter };
  readonly parametrization: P;
  /** The weight before merging. */
  original?: Tensor;
}

/** The handle of a method that parametrizes weights. While it is attached the base is frozen. */
export abstract class ParametrizedModel<P extends AdapterParametrization> implements AdapterHandle {
  readonly model: AnyModule;
  readonly name: string;
  readonly #layers = new Map<string, ParametrizedLayer<P>>();
  readonly #trainedBase = new TrainedBase();

  /**
   * @param make the parametrization of the layer at a path.
   * @param whole parameters of the base that train too.
   * @throws ConfigError if a weight is tied to another module.
   */
  constructor(
    model: AnyModule,
    name: string,
    paths: readonly string[],
    make: (path: string, base: AnyModule & { weight: Parameter }) => P,
    whole: ReadonlyMap<string, Parameter> = new Map(),
  ) {
    this.model = model;
    this.name = name;
    const bases = paths.map((path) => [path, model.getSubmodule(path) as AnyModule & { weight: Parameter }] as const);
    refuseTied(
      model,
      bases.map(([path, { weight }]) => [path, weight] as const),
    );
    freezeBase(model, this);
    for (const [path, base] of bases) {
      const parametrization = make(path, base);
      base.weight.parametrizations.push(parametrization);
      this.#layers.set(path, { base, parametrization });
    }
    this.#trainedBase.add(name, whole);
    this.#trainedBase.show(name);
    for (const parameter of this.own().values()) parameter.requiresGrad = true;
  }

  /** The parametrizations by path of their layer. */
  get layers(): ReadonlyMap<string, P> {
    return new Map([...this.#layers].map(([path, { parametrization }]) => [path, parametrization]));
  }

  /** All that trains under its name in a file, less the prefix. */
  protected own(): Map<string, Parameter> {
    const own = [...this.#layers].flatMap(([path, { parametrization }]) => [...parametrization.namedParameters(path)]);
    return new Map([...own, ...this.#trainedBase.parameters(this.name)]);
  }

  /** None of the parametrizations' while they are merged. */
  parameters(): Map<string, Parameter> {
    return trainingOf(this.model, this.own().values());
  }

  get trainableFraction(): number {
    return fractionOf(this.model, this.parameters());
  }

  describe(): AdapterDescription[] {
    return [...this.#layers].map(([path, { base, parametrization }]) => ({
      path,
      adapter: this.name,
      layer: base.constructor.name,
      ...this.describeLayer(parametrization),
      parameters: countNumbers(parametrization.parameters()),
      baseParameters: base.weight.size,
    }));
  }

  protected abstract describeLayer(parametrization: P): Pick<AdapterDescription, 'r' | 'scaling'>;

  /** Uses the adapter again after `disable`. */
  enable(): void {
    for (const { parametrization } of this.#layers.values()) parametrization.enabled = true;
    this.#trainedBase.show(this.name);
  }

  /** Runs the base alone until `enable`; a merged adapter is unmerged. */
  disable(): void {
    this.unmerge();
    for (const { parametrization } of this.#layers.values()) parametrization.enabled = false;
    this.#trainedBase.show(undefined);
  }

  /**
   * Writes the weights in use into the base, which keeps its own meanwhile.
   * @throws ConfigError if a weight has other parametrizations; with `safe`, NumericsError if a number of the adapter is
   *   not finite.
   */
  merge(options: { safe?: boolean } = {}): void {
    const open = [...this.#layers].filter(([, { original }]) => original === undefined);
    for (const [path, { base }] of open) {
      if (base.weight.parametrizations.length === 1) continue;
      throw new ConfigError(`The weight of '${path}' has other parametrizations; merge or unload these first.`);
    }
    if (options.safe) {
      checkFinite(
        [...this.own()].map(([name, { stored }]) => [name, stored]),
        'adapter',
      );
    }
    for (const [, layer] of open) {
      const { weight } = layer.base;
      const merged = tidy(() => layer.parametrization.parametrize(weight.stored));
      weight.parametrizations.length = 0;
      layer.original = weight.exchange(merged);
    }
  }

  /** Puts the weights back: exact. */
  unmerge(): void {
    for (const layer of this.#layers.values()) {
      if (layer.original === undefined) continue;
      layer.base.weight.assign(layer.original);
      layer.base.weight.parametrizations.push(layer.parametrization);
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
    for (const parameter of this.own().values()) parameter.requiresGrad = false;
    for (const { base, parametrization } of this.#layers.values()) {
      const { parametrizations } = base.weight;
      const place = parametrizations.indexOf(parametrization);
      if (place >= 0) parametrizations.splice(place, 1);
      parametrization.dispose();
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
      () => new Map([...this.own()].map(([name, { stored }]) => [`${PREFIX}${name}`, clone(stored)])),
    );
  }

  /** Copies what `stateDict` gave into the adapter. @throws FormatError listing all that does not fit. */
  loadStateDict(tensors: ReadonlyMap<string, Tensor>, source = 'The adapter'): void {
    this.unmerge();
    const own = new Map([...this.own()].map(([name, parameter]) => [`${PREFIX}${name}`, parameter]));
    this.#trainedBase.with(this.name, () => assignTensors(own, tensors, { source }));
  }

  /** The object of `adapter_config.json`. */
  protected abstract toJson(baseModel?: string): Record<string, unknown>;

  /** Writes the adapter as `peft` lays its own out. */
  async save(dir: string, options: { baseModel?: string } = {}): Promise<void> {
    const tensors = this.stateDict();
    try {
      await writeAdapterFiles(dir, this.toJson(options.baseModel), tensors);
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }

  /** What the config in `dir` says. @throws FormatError unless it is one of this method. */
  protected abstract readConfig(dir: string): Promise<unknown>;

  /**
   * Takes over the numbers of the adapter in `dir`, which must have the layers of this one.
   * @throws FormatError naming the file and all that is wrong in it; the adapter is then as before.
   */
  async load(dir: string): Promise<void> {
    const config = await this.readConfig(dir);
    const { tensors, source } = await readAdapterTensors(dir);
    try {
      this.takeOver(tensors, source, config);
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }

  /** Takes over the tensors of a file with the config `_config`. */
  protected takeOver(tensors: ReadonlyMap<string, Tensor>, source: string, _config: unknown): void {
    this.loadStateDict(tensors, source);
  }
}

/** `handle` with the numbers of the adapter in `dir`; where these do not fit the model is as before `handle` was attached. */
export async function loadInto<Handle extends AdapterHandle>(handle: Handle, dir: string): Promise<Handle> {
  try {
    await handle.load(dir);
  } catch (error) {
    handle.unload();
    throw error;
  }
  return handle;
}
