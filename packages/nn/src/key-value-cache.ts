import { concat, dispose, keep, ShapeError, slice, type Tensor, tidy } from '@ashlar/tensor';

/**
 * Keys and values of the tokens that a model has seen, layer by layer, so that each new token costs one row. Keys are as
 * projected, not rotated: several encodings change their angles with the length.
 */
export class KeyValueCache {
  readonly #layers: { k: Tensor; v: Tensor }[] = [];

  /** Tokens held by the first layer; while a forward pass runs, later layers may still lack its tokens. */
  get length(): number {
    return this.#layers[0]?.k.shape[2] ?? 0;
  }

  /**
   * Appends `[batch, kvHeads, new, dim]` to a layer and returns all its keys and values, which stay the cache's own.
   * @throws ShapeError if they do not continue what is there, or if a layer is skipped.
   */
  append(layer: number, k: Tensor, v: Tensor): { k: Tensor; v: Tensor } {
    const old = this.#layers[layer];
    if (old === undefined && layer !== this.#layers.length) {
      throw new ShapeError(`The cache has ${this.#layers.length} layers; the next one is not ${layer}.`);
    }
    const join = (before: Tensor | undefined, after: Tensor): Tensor => {
      if (before === undefined) return keep(after.clone());
      if (before.shape[0] !== after.shape[0] || before.shape[1] !== after.shape[1]) {
        throw new ShapeError(`The cache holds [${before.shape}] and cannot take [${after.shape}]; use a new one.`);
      }
      return keep(concat([before, after], 2));
    };
    const layers = { k: join(old?.k, k), v: join(old?.v, v) };
    if (old !== undefined) dispose([old.k, old.v]);
    this.#layers[layer] = layers;
    return layers;
  }

  /** Keeps the first `length` tokens. */
  truncate(length: number): void {
    for (const [i, { k, v }] of this.#layers.entries()) {
      const cut = (x: Tensor): Tensor =>
        keep(tidy(() => slice(x, [0, 0, 0, 0], [-1, -1, Math.min(length, x.shape[2] as number), -1])));
      this.#layers[i] = { k: cut(k), v: cut(v) };
      dispose([k, v]);
    }
  }

  /** Forgets everything. */
  dispose(): void {
    for (const { k, v } of this.#layers.splice(0)) dispose([k, v]);
  }
}
