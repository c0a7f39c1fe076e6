import { clone, keep, type Parameter, type Tensor } from '@ashlar/tensor';

/**
 * Base parameters that adapters train whole (`modulesToSave`, `bias`): each adapter has its own copy, of which the model
 * holds one at a time; without an adapter it holds the original.
 */
export class TrainedBase {
  readonly #original = new Map<string, { parameter: Parameter; tensor?: Tensor }>();
  readonly #parked = new Map<string, Map<string, Tensor>>();
  /** The parameters of each adapter by name. */
  readonly #names = new Map<string, Set<string>>();
  #shown: string | undefined;

  /** Gives `adapter` its own copy of `parameters`, starting from the original. */
  add(adapter: string, parameters: ReadonlyMap<string, Parameter>): void {
    const shown = this.#shown;
    this.show(undefined);
    for (const [name, parameter] of parameters) this.#original.set(name, { parameter });
    this.#names.set(adapter, new Set(parameters.keys()));
    const copy = (parameter: Parameter): Tensor => keep(clone(parameter.stored));
    this.#parked.set(adapter, new Map([...parameters].map(([name, parameter]) => [name, copy(parameter)])));
    this.show(shown);
  }

  delete(adapter: string): void {
    if (this.#shown === adapter) this.show(undefined);
    for (const tensor of this.#parked.get(adapter)?.values() ?? []) tensor.dispose();
    this.#parked.delete(adapter);
    this.#names.delete(adapter);
  }

  /** The base parameters that `adapter` trains, by name. */
  parameters(adapter: string): Map<string, Parameter> {
    const names = this.#names.get(adapter) ?? [];
    return new Map([...names].map((name) => [name, (this.#original.get(name) as { parameter: Parameter }).parameter]));
  }

  /** Puts `adapter`'s copies into the model, or the original for `undefined`. */
  show(adapter: string | undefined): void {
    if (adapter === this.#shown) return;
    if (this.#shown !== undefined) this.#swapBack(this.#shown);
    this.#shown = adapter;
    for (const [name, tensor] of this.#parked.get(adapter ?? '') ?? []) {
      const original = this.#original.get(name) as { parameter: Parameter; tensor?: Tensor };
      original.tensor = original.parameter.exchange(tensor);
    }
    if (adapter !== undefined) this.#parked.get(adapter)?.clear();
  }

  #swapBack(adapter: string): void {
    const parked = this.#parked.get(adapter);
    for (const name of this.#names.get(adapter) ?? []) {
      const original = this.#original.get(name) as { parameter: Parameter; tensor?: Tensor };
      if (original.tensor === undefined) continue;
      parked?.set(name, original.parameter.exchange(original.tensor));
      original.tensor = undefined;
    }
  }

  /** Leaves `adapter`'s copies in the model for good. */
  keep(adapter: string): void {
    this.show(adapter);
    for (const original of this.#original.values()) {
      original.tensor?.dispose();
      original.tensor = undefined;
    }
    this.#names.get(adapter)?.clear();
    this.#shown = undefined;
  }

  /** Runs `read` with `adapter`'s copies in the model. */
  with<T>(adapter: string, read: () => T): T {
    const shown = this.#shown;
    this.show(adapter);
    try {
      return read();
    } finally {
      this.show(shown);
    }
  }
}
