import { Dropout } from '@ashlar/nn';
import {
  add,
  ConfigError,
  checkFinite,
  div,
  divNoNan,
  gatherRows,
  keep,
  mul,
  Parameter,
  type Rng,
  reshape,
  ShapeError,
  scalar,
  sqrt,
  square,
  stopGradient,
  sub,
  sum,
  type Tensor,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { type AdaptableModule, AdapterLayer } from '../adapter-layer.ts';

/** One adapter on one layer, its rank and alpha already looked up in the patterns. */
export interface LoraAdapterOptions {
  r: number;
  loraAlpha: number;
  loraDropout: number;
  useRslora: boolean;
  useDora: boolean;
  loraBias: boolean;
}

/** What a layer knows of an adapter besides its parameters. */
export interface LoraAdapter {
  readonly r: number;
  readonly loraAlpha: number;
  /** `loraAlpha / r`, or `loraAlpha / sqrt(r)`. */
  readonly defaultScaling: number;
  /** The factor in use. */
  scaling: number;
  /** Low-rank factors at the start where they were taken out of the base weight (PiSSA, OLoRA); kept tensors. */
  start?: { A: Tensor; B: Tensor };
}

/** Which adapter each row of a batch goes through. */
export interface AdapterRows {
  readonly names: readonly string[];
  /** `[batch]`, int32, into `names`; -1 for none. */
  readonly index: Tensor;
}

/**
 * A layer with LoRA adapters (Hu et al. 2021, arXiv 2106.09685): `y = base(x) + sum_i s_i lowRank_i(dropout_i(x))` over
 * the active adapters `i`, or for DoRA `y = bias + (m / n) (W x + s B A x)` with `n` the norms of `W + s B A` taken as
 * constants. The adapter's parameters are `lora_A.<name>`, `lora_B.<name>` … as in `peft`.
 */
export abstract class LoraLayer<Base extends AdaptableModule = AdaptableModule> extends AdapterLayer<Base> {
  readonly lora_dropout: Record<string, Dropout> = {};
  readonly lora_magnitude_vector: Record<string, Parameter> = {};
  readonly #adapters = new Map<string, LoraAdapter>();
  /** While it is set each row of the batch goes through at most one adapter, and none is added to all. */
  rows?: AdapterRows;
  #active: readonly string[] = [];
  readonly #merged: { name: string; ratio?: Tensor }[] = [];

  /** The axis of the base weight that runs over output units. */
  protected abstract readonly outputAxis: number;
  /** The shape that lets a vector over output units broadcast against the layer's output. */
  protected abstract readonly magnitudeShape: number[];

  /** Without the adapters' names: those of equal shapes run in the same graph. */
  override signature(): string {
    const places = this.adapterNames.filter((name) => this.#active.includes(name));
    const active = this.#active.map((name) => {
      // A graph draws from the generator that it was traced with.
      const drops = this.training && (this.lora_dropout[name]?.p ?? 0) > 0;
      return `${places.indexOf(name)}*${this.adapter(name).scaling}${drops ? ` dropout of ${name}` : ''}`;
    });
    return `${super.signature()}[${active}${this.#merged.length > 0 ? ' merged' : ''}]`;
  }

  override *idleSlots(): Generator<Parameter> {
    for (const name of this.adapterNames) {
      if (this.#merged.length > 0 || !this.#active.includes(name)) yield* this.adapterParameters(name).values();
    }
  }

  /** Makes the parameters of the low-rank path. */
  protected abstract addFactors(name: string, options: LoraAdapterOptions, rng: Rng): void;
  protected abstract removeFactors(name: string): void;
  /** The low-rank path, unscaled. */
  protected abstract lowRank(name: string, x: Tensor): Tensor;
  /** The sum of the low-rank paths of `names` with their hidden numbers times `factors`, `[batch, sum of r]`. */
  protected abstract lowRankRows(names: readonly string[], factors: Tensor, x: Tensor): Tensor;
  /** The update of the base weight that the low-rank path amounts to, unscaled, in the weight's layout. */
  protected abstract lowRankDelta(name: string): Tensor;
  /** The two factors: `A` first. */
  abstract factors(name: string): { A: Parameter; B: Parameter };
  /** The parameters of an adapter on this layer by their name in a PEFT file. */
  abstract adapterParameters(name: string): Map<string, Parameter>;

  addAdapter(name: string, options: LoraAdapterOptions, rng: Rng): void {
    const { r, loraAlpha, loraDropout, useRslora, useDora } = options;
    const defaultScaling = loraAlpha / (useRslora ? Math.sqrt(r) : r);
    this.#adapters.set(name, { r, loraAlpha, defaultScaling, scaling: defaultScaling });
    this.lora_dropout[name] = new Dropout(loraDropout, rng.fork('dropout'));
    this.lora_dropout[name].training = this.training;
    this.addFactors(name, options, rng);
    if (useDora) {
      const init = (): Tensor => reshape(this.#weightNorm(this.deltaWeight(name)), this.magnitudeShape);
      this.lora_magnitude_vector[name] = new Parameter({ shape: this.magnitudeShape, init: () => tidy(init) });
    }
  }

  /** Removes an adapter; what it took out of the base weight at its start (PiSSA, OLoRA) goes back in. */
  deleteAdapter(name: string): void {
    const adapter = this.adapter(name);
    if (adapter.start !== undefined) {
      const { weight } = this.base_layer;
      const { A, B } = this.factors(name);
      A.assign(adapter.start.A);
      B.assign(adapter.start.B);
      adapter.scaling = adapter.defaultScaling;
      weight.assign(tidy(() => add(weight.stored, this.deltaWeight(name))));
    }
    for (const parameter of this.adapterParameters(name).values()) parameter.dispose();
    this.removeFactors(name);
    delete this.lora_dropout[name];
    delete this.lora_magnitude_vector[name];
    this.#adapters.delete(name);
    this.#active = this.#active.filter((active) => active !== name);
  }

  get adapterNames(): string[] {
    return [...this.#adapters.keys()];
  }

  adapter(name: string): LoraAdapter {
    const adapter = this.#adapters.get(name);
    if (adapter === undefined) {
      throw new ConfigError(`No adapter '${name}' on this layer; it has ${this.adapterNames.join(', ') || 'none'}.`);
    }
    return adapter;
  }

  /** The adapters that `forward` adds. Names that this layer does not have are left out. */
  setActive(names: readonly string[]): void {
    this.#active = names.filter((name) => this.#adapters.has(name));
  }

  get mergedAdapters(): string[] {
    return this.#merged.map(({ name }) => name);
  }

  /** `s B A` in the layout of the base weight, without DoRA's magnitude. The caller disposes of it. */
  deltaWeight(name: string): Tensor {
    return tidy(() => mul(this.lowRankDelta(name), this.adapter(name).scaling));
  }

  override forward(x: Tensor): Tensor {
    const base = this.base_layer.apply(x);
    if (this.#merged.length > 0) return base;
    if (this.rows !== undefined) return this.#forRows(x, base, this.rows);
    return this.#active.reduce((y, name) => add(y, this.#adaptation(name, x, base)), base);
  }

  #forRows(x: Tensor, base: Tensor, { names, index }: AdapterRows): Tensor {
    if (x.shape[0] !== index.shape[0]) {
      throw new ShapeError(`There are adapters for ${index.shape[0]} rows; the batch is [${x.shape}].`);
    }
    const own = names.filter((name) => this.#adapters.has(name));
    if (own.length === 0) return base;
    for (const name of own) {
      if (name in this.lora_magnitude_vector || this.adapterParameters(name).has('lora_B.bias')) {
        throw new ConfigError(
          `Adapter '${name}' has ${name in this.lora_magnitude_vector ? 'useDora' : 'loraBias'}, which does not go with rows.`,
        );
      }
    }
    // Row 0 is for no adapter.
    const table = ['', ...names].map((row) =>
      own.flatMap((name) => Array<number>(this.adapter(name).r).fill(row === name ? this.adapter(name).scaling : 0)),
    );
    return add(base, this.lowRankRows(own, gatherRows(tensor2d(table), add(index, scalar(1, 'int32'))), x));
  }

  #adaptation(name: string, x: Tensor, base: Tensor): Tensor {
    const dropped = this.lora_dropout[name].apply(x);
    const update = mul(this.lowRank(name, dropped), this.adapter(name).scaling);
    if (!(name in this.lora_magnitude_vector)) return update;
    const ratio = this.#magnitudeRatio(name);
    const { bias } = this.base_layer;
    // With dropout the input is dropped before every term, W x included.
    const withBias = dropped === x ? base : this.base_layer.apply(dropped);
    const unbiased = bias === undefined ? withBias : sub(withBias, this.#overOutput(bias.value));
    return add(mul(sub(ratio, 1), unbiased), mul(ratio, update));
  }

  /** DoRA's `m / n`, in `magnitudeShape`; `n` is a constant for differentiation. */
  #magnitudeRatio(name: string): Tensor {
    const norm = stopGradient(this.#weightNorm(this.deltaWeight(name)));
    return divNoNan(this.lora_magnitude_vector[name].value, reshape(norm, this.magnitudeShape));
  }

  /** Norm of each output unit's weights in `W + delta`. */
  #weightNorm(delta: Tensor): Tensor {
    const weight = this.base_layer.weight.value;
    const axes = weight.shape.map((_, axis) => axis).filter((axis) => axis !== this.outputAxis);
    return sqrt(sum(square(add(weight, delta)), axes));
  }

  #overOutput(vector: Tensor): Tensor {
    return reshape(vector, this.magnitudeShape);
  }

  /**
   * Adds the adapters to the base weight in order; `forward` then runs the base alone. Adapters that are merged already
   * are left as they are.
   * @param safe refuse a result that is not finite, leaving the weight as it was.
   * @throws NumericsError with `safe`, if the merged weight is not finite.
   */
  merge(names: readonly string[], safe = false): void {
    const { weight } = this.base_layer;
    if (weight.parametrizations.length > 0) {
      throw new ConfigError(
        'The base weight has parametrizations; merge these first (weight.mergeParametrizations()).',
      );
    }
    for (const name of names) {
      if (!this.#adapters.has(name) || this.mergedAdapters.includes(name)) continue;
      const dora = name in this.lora_magnitude_vector;
      const ratio = dora ? keep(tidy(() => this.#magnitudeRatio(name))) : undefined;
      const merged = tidy(() => {
        const sum = add(weight.stored, this.deltaWeight(name));
        return ratio === undefined ? sum : mul(this.#overWeight(ratio), sum);
      });
      if (safe) {
        try {
          checkFinite([[name, merged]], 'merged weight of adapter');
        } catch (error) {
          merged.dispose();
          ratio?.dispose();
          throw error;
        }
      }
      weight.assign(merged);
      this.#merged.push({ name, ratio });
    }
  }

  /** Takes the merged adapters out of the base weight again, last merged first. */
  unmerge(): void {
    const { weight } = this.base_layer;
    for (let last = this.#merged.pop(); last !== undefined; last = this.#merged.pop()) {
      const { name, ratio } = last;
      weight.assign(
        tidy(() => {
          const scaled = ratio === undefined ? weight.stored : div(weight.stored, this.#overWeight(ratio));
          return sub(scaled, this.deltaWeight(name));
        }),
      );
      ratio?.dispose();
    }
  }

  /** Forgets that adapters are merged, so that they stay in the base weight for good. */
  keepMerged(): void {
    for (const { ratio } of this.#merged.splice(0)) ratio?.dispose();
  }

  #overWeight(ratio: Tensor): Tensor {
    const { shape } = this.base_layer.weight;
    return reshape(
      ratio,
      shape.map((size, axis) => (axis === this.outputAxis ? size : 1)),
    );
  }
}
