import { Conv1D, Conv2d, Embedding, Linear } from '@ashlar/nn';
import {
  type AnyModule,
  ConfigError,
  type Parameter,
  Rng,
  replaceModule,
  reshape,
  Tensor,
  tensor1d,
  tidy,
} from '@ashlar/tensor';
import { refuseTied } from '../adapter-layer.ts';
import { freezeBase, thawBase } from '../frozen-base.ts';
import { patternKey } from '../match.ts';
import type { AdapterDescription, AdapterHandle, AttachOptions, Method } from '../method.ts';
import { targetPaths, wholeParameters, withTargets } from '../targets.ts';
import { countNumbers, fractionOf, trainingOf } from '../trainable.ts';
import { TrainedBase } from '../trained-base.ts';
import { type CombinationType, combineFactors } from './combine.ts';
import { type CheckedLoraConfig, checkLoraConfig, type LoraConfig } from './config.ts';
import { LoraConv2d } from './conv2d.ts';
import { LoraEmbedding } from './embedding.ts';
import { readAdapter, writeAdapter } from './files.ts';
import { initialize } from './initialize.ts';
import { LoraLayer } from './layer.ts';
import { LoraLinear } from './linear.ts';
import { type AdapterParts, adapterTensors, assignAdapterTensors } from './state.ts';

/** LoRA (Hu et al. 2021, arXiv 2106.09685) with rsLoRA, DoRA, PiSSA and OLoRA, ready for `attach`. */
export function lora(config: LoraConfig = {}): Method<LoraModel> {
  const checked = checkLoraConfig(config);
  return {
    attach(model, options) {
      const handle = new LoraModel(model);
      handle.add(options.name ?? 'default', checked, options);
      return handle;
    },
  };
}

/**
 * The LoRA adapters of one model: several by name on one base, switched without copying it.
 *
 * While it is attached the base is frozen; `unload` gives the model back as it was, `mergeAndUnload` with the active
 * adapters in its weights.
 */
export class LoraModel implements AdapterHandle {
  readonly model: AnyModule;
  readonly #configs = new Map<string, CheckedLoraConfig>();
  readonly #layers = new Map<string, LoraLayer>();
  readonly #trainedBase = new TrainedBase();
  #active: string[] = [];
  #enabled = true;

  /** @throws ConfigError if the model carries LoRA layers already: use the handle that made them. */
  constructor(model: AnyModule) {
    for (const [path, module] of model.namedModules()) {
      if (module instanceof LoraLayer) {
        throw new ConfigError(`The model has LoRA at '${path}' already; add to its handle, or unload that first.`);
      }
    }
    this.model = model;
  }

  /** The names of the adapters, oldest first. */
  get names(): string[] {
    return [...this.#configs.keys()];
  }

  get active(): readonly string[] {
    return this.#active;
  }

  /** The adapted layers by path. */
  get layers(): ReadonlyMap<string, LoraLayer> {
    return this.#layers;
  }

  /** The configuration of an adapter, its defaults filled in. */
  config(name: string): CheckedLoraConfig {
    const config = this.#configs.get(name);
    if (config === undefined) {
      throw new ConfigError(`No adapter '${name}'; there is ${this.names.map((n) => `'${n}'`).join(', ') || 'none'}.`);
    }
    return config;
  }

  /**
   * Adds an adapter and makes it the only active one. On an error the model is as before.
   * @throws ConfigError if the name is taken, no module matches, or a layer does not allow the options.
   */
  add(name: string, config: LoraConfig, options: { rng?: Rng; init?: boolean } = {}): void {
    const { rng = new Rng(0), init = true } = options;
    if (!/^\w[\w-]*$/.test(name)) throw new ConfigError(`'${name}' is no adapter name: letters, digits, _ and - only.`);
    if (this.#configs.has(name)) throw new ConfigError(`There is an adapter '${name}' already; delete it first.`);
    this.#refuseMerged('add an adapter');
    const checked = withTargets(this.model, checkLoraConfig(config));
    const paths = targetPaths(this.model, checked, isAdaptable, (layer) => layer instanceof LoraLayer);
    const whole = wholeParameters(this.model, checked, paths);
    const active = this.#active;
    freezeBase(this.model, this);
    this.#configs.set(name, checked);
    try {
      for (const path of paths) {
        this.#addTo(path, name, checked, rng.fork(name).fork(path), init);
      }
      this.#trainedBase.add(name, whole);
      this.setActive([name]);
    } catch (error) {
      this.delete(name);
      this.setActive(active);
      if (this.names.length === 0) thawBase(this.model, this);
      throw error;
    }
  }

  #addTo(path: string, name: string, config: CheckedLoraConfig, rng: Rng, init: boolean): void {
    let layer = this.#layers.get(path);
    if (layer === undefined) {
      layer = replaceModule(this.model, path, (base) => wrap(base) as LoraLayer);
      this.#layers.set(path, layer);
    }
    const { r, loraAlpha, rankPattern, alphaPattern } = config;
    layer.addAdapter(
      name,
      {
        ...config,
        r: rankPattern[patternKey(Object.keys(rankPattern), path)] ?? r,
        loraAlpha: alphaPattern[patternKey(Object.keys(alphaPattern), path)] ?? loraAlpha,
      },
      rng,
    );
    const changesBase = typeof config.initLoraWeights === 'string' && /^(pissa|olora)/.test(config.initLoraWeights);
    if (init || changesBase) initialize(layer, name, config.initLoraWeights, rng);
  }

  /**
   * Makes `names` the adapters that the model uses and trains; `[]` is the base alone.
   * @throws ConfigError for an unknown name, or for several adapters that train the base's own parameters.
   */
  setActive(names: string | readonly string[]): void {
    const list = typeof names === 'string' ? [names] : [...names];
    for (const name of list) this.config(name);
    const withBase = list.filter((name) => this.#trainedBase.parameters(name).size > 0);
    if (withBase.length > 1) {
      throw new ConfigError(`Only one active adapter may train modules of the base, not ${withBase.join(', ')}.`);
    }
    this.unmerge();
    this.#active = list;
    this.#apply();
  }

  #apply(): void {
    const shown = this.#enabled ? this.#active : [];
    for (const layer of this.#layers.values()) layer.setActive(shown);
    this.#trainedBase.show(shown.find((name) => this.#trainedBase.parameters(name).size > 0));
    for (const name of this.names) this.#train(name, false);
    for (const name of this.#active) this.#train(name, true);
  }

  #train(name: string, train: boolean): void {
    for (const parameter of this.#own(name).values()) parameter.requiresGrad = train;
  }

  /** All parameters of an adapter under their names in a PEFT file, less the prefix. */
  #own(name: string): Map<string, Parameter> {
    const own = new Map<string, Parameter>();
    for (const [path, layer] of this.#layersOf(name)) {
      for (const [key, parameter] of layer.adapterParameters(name)) own.set(`${path}.${key}`, parameter);
    }
    for (const [key, parameter] of this.#trainedBase.parameters(name)) own.set(key, parameter);
    return own;
  }

  #parts(name: string): AdapterParts {
    return { name, layers: this.#layersOf(name), parameters: this.#own(name) };
  }

  #layersOf(name: string): [string, LoraLayer][] {
    return [...this.#layers].filter(([, layer]) => layer.adapterNames.includes(name));
  }

  /** Uses the active adapters again after `disable`. */
  enable(): void {
    this.#enabled = true;
    this.#apply();
  }

  /** Runs the base alone until `enable`; merged adapters are unmerged. */
  disable(): void {
    this.unmerge();
    this.#enabled = false;
    this.#apply();
  }

  /** Runs `run` on the base alone. */
  withDisabled<T>(run: () => T): T {
    const enabled = this.#enabled;
    this.disable();
    try {
      return run();
    } finally {
      if (enabled) this.enable();
    }
  }

  /**
   * Runs `run` with one of the active adapters for each row of the batch, so that requests for different adapters share one
   * pass: the base runs once, and the low-rank paths of all active adapters beside it. Dropout is left out.
   * @param rows names of active adapters, null for the base alone; or under `jit` an int32 tensor `[batch]` of places in
   *   `active`, -1 for the base alone, so that any choice runs in the same graph.
   * @throws ConfigError for names that are not active, merged adapters, and adapters with `useDora`, `loraBias`, biases or
   *   modules of the base; ShapeError where the batch has another number of rows.
   * @example handle.setActive(['fr', 'de']);
   *   const logits = handle.withRows(['fr', null, 'de'], () => model.apply(inputIds));
   */
  withRows<T>(rows: readonly (string | null)[] | Tensor, run: () => T): T {
    this.#refuseMerged('choose adapters by row');
    const names = this.#active;
    const whole = names.find((name) => this.#trainedBase.parameters(name).size > 0);
    if (whole !== undefined)
      throw new ConfigError(`Adapter '${whole}' changes parameters of the base, which all rows share.`);
    const index =
      rows instanceof Tensor
        ? rows
        : tensor1d(
            rows.map((name) => this.#placeOf(name)),
            'int32',
          );
    for (const layer of this.#layers.values()) layer.rows = { names, index };
    try {
      return run();
    } finally {
      for (const layer of this.#layers.values()) layer.rows = undefined;
      if (index !== rows) index.dispose();
    }
  }

  #placeOf(name: string | null): number {
    const place = name === null ? -1 : this.#active.indexOf(name);
    if (name === null || place >= 0) return place;
    throw new ConfigError(
      `rows names '${name}', which is not active; active are ${this.#active.join(', ') || 'none'}.`,
    );
  }

  parameters(): Map<string, Parameter> {
    return trainingOf(
      this.model,
      this.#active.flatMap((name) => [...this.#own(name).values()]),
    );
  }

  get trainableFraction(): number {
    return fractionOf(this.model, this.parameters());
  }

  describe(): AdapterDescription[] {
    return [...this.#layers].flatMap(([path, layer]) =>
      layer.adapterNames.map((adapter) => ({
        path,
        adapter,
        layer: layer.base_layer.constructor.name,
        r: layer.adapter(adapter).r,
        scaling: layer.adapter(adapter).scaling,
        parameters: countNumbers(layer.adapterParameters(adapter).values()),
        baseParameters: layer.base_layer.weight.size,
      })),
    );
  }

  /** Multiplies the default scaling of an adapter on all its layers by `factor`. */
  setScale(name: string, factor: number): void {
    this.config(name);
    this.#refuseMerged('change a scaling');
    for (const [, layer] of this.#layersOf(name)) {
      const adapter = layer.adapter(name);
      adapter.scaling = factor * adapter.defaultScaling;
    }
  }

  get merged(): boolean {
    return [...this.#layers.values()].some((layer) => layer.mergedAdapters.length > 0);
  }

  /**
   * Adds the active adapters to the base weights, so that inference costs nothing more; `unmerge` takes them out again,
   * exact within float32 rounding.
   * @param options.safe refuse weights that are not finite.
   * @throws ConfigError if an adapted weight is tied to another module, which would change with it.
   */
  merge(options: { safe?: boolean } = {}): void {
    const adapted = [...this.#layers].filter(([, layer]) =>
      this.#active.some((name) => layer.adapterNames.includes(name)),
    );
    refuseTied(
      this.model,
      adapted.map(([path, layer]) => [path, layer.base_layer.weight] as const),
    );
    try {
      for (const layer of this.#layers.values()) layer.merge(this.#active, options.safe);
    } catch (error) {
      this.unmerge();
      throw error;
    }
  }

  unmerge(): void {
    for (const layer of this.#layers.values()) layer.unmerge();
  }

  #refuseMerged(what: string): void {
    if (this.merged) throw new ConfigError(`Adapters are merged; unmerge them before you ${what}.`);
  }

  /** Merges the active adapters for good and gives the plain model back; this handle is then empty. */
  mergeAndUnload(options: { safe?: boolean } = {}): AnyModule {
    this.merge(options);
    for (const layer of this.#layers.values()) {
      layer.keepMerged();
      for (const name of layer.adapterNames) layer.adapter(name).start = disposed(layer.adapter(name).start);
    }
    const shown = this.#active.find((name) => this.#trainedBase.parameters(name).size > 0);
    if (shown !== undefined) this.#trainedBase.keep(shown);
    return this.unload();
  }

  /** Removes all adapters and gives the model back as it was. */
  unload(): AnyModule {
    this.unmerge();
    for (const name of this.names) this.delete(name);
    thawBase(this.model, this);
    return this.model;
  }

  /** Removes an adapter; layers without any left become plain again. */
  delete(name: string): void {
    this.config(name);
    this.unmerge();
    this.#train(name, false);
    for (const [path, layer] of this.#layersOf(name)) {
      layer.deleteAdapter(name);
      if (layer.adapterNames.length > 0) continue;
      replaceModule(this.model, path, () => layer.base_layer);
      this.#layers.delete(path);
    }
    this.#trainedBase.delete(name);
    this.#configs.delete(name);
    this.#active = this.#active.filter((active) => active !== name);
    this.#apply();
  }

  /**
   * Makes a new adapter with scaling 1 out of the weighted `names` and makes it the active one. A layer takes part with
   * the adapters that it has.
   * @throws ConfigError for DoRA adapters, whose updates do not add, and as `combineFactors`.
   */
  combine(
    names: readonly string[],
    weights: readonly number[],
    newName: string,
    options: { combinationType?: CombinationType; svdRank?: number } = {},
  ): void {
    const { combinationType = 'cat', svdRank } = options;
    if (names.length === 0 || names.length !== weights.length) {
      throw new ConfigError(`combine needs one weight per adapter: ${names.length} names, ${weights.length} weights.`);
    }
    for (const name of names) {
      if (this.config(name).useDora) throw new ConfigError(`'${name}' is a DoRA adapter; their updates do not add up.`);
    }
    const combined = new Map<string, { A: Tensor; B: Tensor }>();
    for (const [path, layer] of this.#layers) {
      const parts = names
        .map((name, i) => ({ name, weight: weights[i] }))
        .filter(({ name }) => layer.adapterNames.includes(name))
        .map(({ name, weight }) => ({ layer, name, weight, scaling: layer.adapter(name).scaling }));
      if (parts.length === 0) continue;
      const factors = tidy(() =>
        combineFactors(
          parts.map(({ name, ...part }) => ({ ...part, ...flatFactors(layer, name) })),
          combinationType,
          svdRank,
        ),
      );
      combined.set(path, factors);
    }
    const ranks = Object.fromEntries(
      [...combined].map(([path, { A }]) => [`^${path.replaceAll('.', '\\.')}`, A.shape[0]]),
    );
    this.add(newName, {
      targetModules: [...combined.keys()],
      r: Math.max(...Object.values(ranks)),
      loraAlpha: Math.max(...Object.values(ranks)),
      rankPattern: ranks,
      alphaPattern: ranks,
    });
    for (const [path, { A, B }] of combined) {
      const own = (this.#layers.get(path) as LoraLayer).factors(newName);
      own.A.assign(reshape(A, own.A.shape));
      own.B.assign(reshape(B, own.B.shape));
      A.dispose();
      B.dispose();
    }
  }

  /**
   * The tensors of an adapter under their names in a PEFT file, as new tensors that the caller disposes of.
   * @param options.asPlainLora PiSSA and OLoRA as the equal plain LoRA of twice the rank against the original base.
   */
  stateDict(name: string, options: { asPlainLora?: boolean } = {}): Map<string, Tensor> {
    this.config(name);
    return this.#trainedBase.with(name, () => adapterTensors(this.#parts(name), options.asPlainLora ?? false));
  }

  /** Copies `tensors`, named as in a PEFT file, into an adapter. @throws FormatError listing all that does not fit. */
  loadStateDict(name: string, tensors: ReadonlyMap<string, Tensor>, source = 'The adapter'): void {
    this.config(name);
    this.#trainedBase.with(name, () => assignAdapterTensors(this.#parts(name), tensors, source));
  }

  /**
   * Writes `adapter_config.json` and `adapter_model.safetensors` as `peft` does, each atomically. PiSSA and OLoRA are
   * written as the equal plain LoRA against the original base, unless `asPlainLora` is false: `peft` then has to redo the
   * same initialisation on load.
   * @param options.baseModel written as `base_model_name_or_path`.
   */
  async save(dir: string, options: { name?: string; asPlainLora?: boolean; baseModel?: string } = {}): Promise<void> {
    const name = options.name ?? this.#active[0] ?? this.names[0];
    const layers = this.#layersOf(name).map(([, layer]) => layer);
    const asPlainLora =
      (options.asPlainLora ?? true) && layers.some((layer) => layer.adapter(name).start !== undefined);
    const tensors = this.stateDict(name, { asPlainLora });
    try {
      const fanInFanOut = layers.some((layer) => layer instanceof LoraLinear && layer.fanInFanOut);
      const { baseModel } = options;
      await writeAdapter(dir, { config: this.config(name), tensors, fanInFanOut, asPlainLora, baseModel });
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }

  /**
   * Adds the adapter in `dir` (PEFT's two files) under `options.name` and makes it the active one.
   * @throws FormatError naming the file and all that is wrong in it; the model is then as before.
   */
  async load(dir: string, options: AttachOptions = {}): Promise<void> {
    const { name = 'default', rng } = options;
    const { config, tensors, source } = await readAdapter(dir);
    try {
      this.add(name, config, { rng, init: false });
      try {
        this.loadStateDict(name, tensors, source);
      } catch (error) {
        this.delete(name);
        throw error;
      }
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }
}

/** Attaches the LoRA adapter in `dir`, saved here or by `peft`. */
export async function loadLora(model: AnyModule, dir: string, options: AttachOptions = {}): Promise<LoraModel> {
  const handle = new LoraModel(model);
  await handle.load(dir, options);
  return handle;
}

/** `base` with a place for adapters, or undefined for a module that LoRA does not adapt. */
function wrap(base: AnyModule): LoraLayer | undefined {
  if (base instanceof Linear || base instanceof Conv1D) return new LoraLinear(base);
  if (base instanceof Embedding) return new LoraEmbedding(base);
  if (base instanceof Conv2d) return new LoraConv2d(base);
  return undefined;
}

const isAdaptable = (base: AnyModule): boolean => wrap(base) !== undefined;

/** Factors as matrices `[r, in]` and `[out, r]`. */
function flatFactors(layer: LoraLayer, name: string): { A: Tensor; B: Tensor } {
  const { A, B } = layer.factors(name);
  const [r] = A.shape;
  return { A: reshape(A.stored, [r, -1]), B: reshape(B.stored, [-1, r]) };
}

function disposed(start: { A: Tensor; B: Tensor } | undefined): undefined {
  start?.A.dispose();
  start?.B.dispose();
  return undefined;
}
