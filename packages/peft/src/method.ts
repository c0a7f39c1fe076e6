import type { AnyModule, Parameter, Rng } from '@ashlar/tensor';

export interface AttachOptions {
  /** The adapter's name, by which it is switched, merged and saved. Default `'default'`. */
  name?: string;
  /** Source of the initial values and of dropout. Default `new Rng(0)`. */
  rng?: Rng;
}

/** One line of `describe()`: an adapter on a layer. */
export interface AdapterDescription {
  path: string;
  adapter: string;
  layer: string;
  r: number;
  scaling: number;
  /** Numbers that train on this layer. */
  parameters: number;
  /** Numbers in the adapted weight. */
  baseParameters: number;
}

/** What every adapter method gives back: one shape for all. */
export interface AdapterHandle {
  /** The parameters that train, by their name in the model. */
  parameters(): Map<string, Parameter>;
  /** Share of the model's numbers that train. */
  readonly trainableFraction: number;
  /** Adds the adapters to the base weights. @param options.safe refuse weights that are not finite. */
  merge(options?: { safe?: boolean }): void;
  unmerge(): void;
  enable(): void;
  disable(): void;
  /** @param options.baseModel written as `base_model_name_or_path`. */
  save(dir: string, options?: { baseModel?: string }): Promise<void>;
  load(dir: string, options?: AttachOptions): Promise<void>;
  describe(): AdapterDescription[];
  /** Merges for good and gives the plain model back. */
  mergeAndUnload(options?: { safe?: boolean }): AnyModule;
  /** Gives the model back as it was. */
  unload(): AnyModule;
}

/** A configured adapter method, ready to be attached to a model. */
export interface Method<Handle extends AdapterHandle> {
  attach(model: AnyModule, options: AttachOptions): Handle;
}

/**
 * Freezes `model`, adds the adapter that `method` describes and returns its handle.
 * @example const adapter = attach(model, lora({ r: 8, targetModules: ['q_proj', 'v_proj'] }));
 */
export function attach<Handle extends AdapterHandle>(
  model: AnyModule,
  method: Method<Handle>,
  options: AttachOptions = {},
): Handle {
  return method.attach(model, options);
}
