import { ConfigError, concat, dispose, keep, ShapeError, slice, type Tensor, tidy } from '@ashlar/tensor';

/** What one layer knows of the tokens so far. */
export interface CachedTokens {
  /** Keys, `[batch, kvHeads, seq, headDim]`, not rotated. */
  keys: Tensor;
  /** Values, `[batch, kvHeads, seq, valueDim]`. */
  values: Tensor;
  /** `[seq]` or `[seq, axes]`. */
  positions: Tensor;
}

/**
 * Keys, values and positions of the tokens that a model has seen, layer by layer, so that each new token costs one row.
 * Keys are as projected, not rotated: several encodings change their angles with the length.
 *
 * The cache owns the tensors that it gives out; they live until its next change.
 */
export class KeyValueCache {
  readonly #layers: CachedTokens[] = [];

  /** How many tokens all layers have; while a forward pass runs, the later ones still lack its tokens. */
  get length(): number {
    return this.#layers.reduce((least, _, layer) => Math.min(least, this.lengthOf(layer)), this.lengthOf(0));
  }

  /** How many tokens a layer has. */
  lengthOf(layer: number): number {
    return this.#layers[layer]?.positions.shape[0] ?? 0;
  }

  /**
   * Adds tokens to a layer and returns all that it has. The caller keeps owning the given tensors.
   * @param keys `[batch, kvHeads, seq, headDim]`, not rotated.
   * @param values `[batch, kvHeads, seq, valueDim]`.
   * @param positions `[seq]` or `[seq, axes]`.
   * @throws ShapeError unless they fit each other and continue what is there, or if a layer is skipped.
   */
  append(layer: number, keys: Tensor, values: Tensor, positions: Tensor): CachedTokens {
    const past = this.#layers[layer];
    if (past === undefined && layer !== this.#layers.length) {
      throw new ShapeError(`The cache has ${this.#layers.length} layers; the next one is not ${layer}.`);
    }
    checkFit({ keys, values, positions }, past);
    const join = (before: Tensor | undefined, now: Tensor, axis: number): Tensor =>
      keep(before === undefined ? now.clone() : concat([before, now], axis));
    const all = {
      keys: join(past?.keys, keys, 2),
      values: join(past?.values, values, 2),
      positions: join(past?.positions, positions, 0),
    };
    this.#layers[layer] = all;
    if (past !== undefined) free(past);
    return all;
  }

  /**
   * Forgets all tokens after the first `length`.
   * @throws ConfigError unless it is an integer from 0 to the cache's length.
   */
  truncate(length: number): void {
    if (!Number.isInteger(length) || length < 0 || length > this.length) {
      throw new ConfigError(`truncate: length is ${length}; it may be an integer from 0 to ${this.length}.`);
    }
    if (length === 0) {
      this.reset();
      return;
    }
    for (const [layer, past] of this.#layers.entries()) {
      this.#layers[layer] = {
        keys: first(past.keys, length, 2),
        values: first(past.values, length, 2),
        positions: first(past.positions, length, 0),
      };
      free(past);
    }
  }

  /** Forgets everything and frees the memory. The cache can then take another sequence. */
  reset(): void {
    for (const layer of this.#layers.splice(0)) free(layer);
  }

  /** The same as `reset`, under the name that owners of tensors have. */
  dispose(): void {
    this.reset();
  }
}

function first(x: Tensor, length: number, axis: number): Tensor {
  const begin = x.shape.map(() => 0);
  const size = x.shape.map((full, i) => (i === axis ? length : full));
  return keep(tidy(() => slice(x, begin, size)));
}

function free({ keys, values, positions }: CachedTokens): void {
  dispose([keys, values, positions]);
}

function checkFit(tokens: CachedTokens, past: CachedTokens | undefined): void {
  const { keys, values, positions } = tokens;
  const fits =
    keys.rank === 4 &&
    values.rank === 4 &&
    [0, 1, 2].every((axis) => values.shape[axis] === keys.shape[axis]) &&
    positions.shape[0] === keys.shape[2];
  if (!fits) {
    throw new ShapeError(
      'The cache takes keys [batch, kvHeads, seq, headDim], values [batch, kvHeads, seq, valueDim] and positions [seq] ' +
        `or [seq, axes], not [${keys.shape}], [${values.shape}] and [${positions.shape}].`,
    );
  }
  if (past !== undefined && layoutOf(past) !== layoutOf(tokens)) {
    throw new ShapeError(`The cache holds ${layoutOf(past)}; ${layoutOf(tokens)} cannot follow. Reset it first.`);
  }
}

/** All but the number of tokens. */
function layoutOf({ keys, values, positions }: CachedTokens): string {
  const [batch, heads, , headDim] = keys.shape;
  const axes = positions.shape.slice(1).map((size) => `, ${size}`);
  return (
    `keys [${batch}, ${heads}, seq, ${headDim}], values [${batch}, ${heads}, seq, ${values.shape[3]}] and ` +
    `${positions.dtype} positions [seq${axes.join('')}]`
  );
}
