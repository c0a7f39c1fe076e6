import {
  abs,
  add,
  Buffer,
  cast,
  customGrad,
  gatherRows,
  greater,
  less,
  Module,
  matMul,
  mul,
  Parameter,
  type Parametrization,
  reshape,
  type Scalar,
  ShapeError,
  scatterRowsAdd,
  sub,
  sum,
  svd,
  type Tensor,
  type Tensor2D,
  tensor1d,
  tidy,
  util,
  where,
  zeros,
  zerosLike,
} from '@ashlar/tensor';

/** The entries of `x` at `places` (int32 `[k]`, row-major): `[k]`. */
export function gatherMasked(x: Tensor, places: Tensor): Tensor {
  return tidy(() => reshape(gatherRows(reshape(x, [-1, 1]), places), [-1]));
}

/** Zeros of `shape` with `values` `[k]` at `places`. */
function scatterMaskedInto(shape: number[], places: Tensor, values: Tensor): Tensor {
  const size = shape.reduce((product, side) => product * side, 1);
  return reshape(scatterRowsAdd(reshape(values, [-1, 1]), places, size), shape);
}

/**
 * `base` with `values` `[k]` at `places` (int32 `[k]`, row-major, each once): exactly these, and elsewhere exactly `base`.
 * The gradient of `values` is the one of the result, gathered at `places`; that of `base` is zero there.
 * @throws ShapeError if the shapes do not fit.
 */
export function scatterMasked(base: Tensor, places: Tensor, values: Tensor): Tensor {
  if (places.rank !== 1 || places.dtype !== 'int32' || !util.arraysEqual(values.shape, places.shape)) {
    const given = `${places.dtype} [${places.shape}] and [${values.shape}]`;
    throw new ShapeError(`scatterMasked needs int32 places [k] and values [k], not ${given}.`);
  }
  const scatter = (own: Tensor): Tensor => scatterMaskedInto(base.shape, places, own);
  // One node of the tape, so that no copy of the weight is kept for the way back. A number less itself is exactly 0.
  return customGrad((weight, own) => ({
    value: add(sub(weight as Tensor, scatter(gatherMasked(weight as Tensor, places))), scatter(own as Tensor)),
    gradFunc: (dy: Tensor) => {
      const gathered = gatherMasked(dy, places);
      return [sub(dy, scatter(gathered)), gathered];
    },
  }))(base, values);
}

/** Below this share of the largest singular value a direction counts as none. */
const ZERO_DIRECTION = 1e-7;

/**
 * The selected entries of one parameter, as a vector that trains: in use is the stored weight with these values in their
 * places. They alone have gradients and moments.
 */
export class SaraValues extends Module<[weight: Tensor]> implements Parametrization {
  /** `[k]`. What stands here of entries that are held is not in use. */
  readonly sara_values: Parameter;
  /** `[k]`: the values of entries that are held; 0 for those that train. */
  readonly sara_held: Buffer;
  /** int32 `[k]`, row-major, ascending. */
  readonly places: Buffer;
  /** `[k]`, of a matrix in the low-rank term: the gradient that was prepared last; 0 for entries that are held. */
  readonly rankGradient?: Buffer;
  readonly #threshold: number;
  readonly #shape: number[];

  /** @param lowRank whether the low-rank term may take this matrix. */
  constructor(weight: Tensor, places: Int32Array, options: { threshold: number; lowRank?: boolean }) {
    super();
    this.#threshold = options.threshold;
    this.#shape = weight.shape;
    this.places = new Buffer(tensor1d(places, 'int32'), { persistent: false });
    this.sara_values = new Parameter(gatherMasked(weight, this.places.stored));
    this.sara_held = new Buffer(zeros([places.length]));
    if (options.lowRank) this.rankGradient = new Buffer(zeros([places.length]), { persistent: false });
  }

  get size(): number {
    return this.sara_values.size;
  }

  /** Whether each entry trains, bool `[k]`: held ones are never below the threshold. The caller disposes of it. */
  trains(): Tensor {
    return tidy(() => less(abs(this.sara_held.stored), this.#threshold));
  }

  /** The values in use, `[k]`. */
  values(): Tensor {
    return tidy(() => where(this.trains(), this.sara_values.value, this.sara_held.stored));
  }

  override forward(weight: Tensor): Tensor {
    return scatterMasked(weight, this.places.stored, this.values());
  }

  parametrize(weight: Tensor): Tensor {
    return this.forward(weight);
  }

  /** Holds the entries that have reached the threshold at their values, for good. */
  reselect(): void {
    this.sara_held.assign(
      tidy(() => {
        const values = this.values();
        return where(less(abs(values), this.#threshold), zerosLike(values), values);
      }),
    );
  }

  /** Lets all entries train again. */
  reset(): void {
    this.sara_held.assign(zeros([this.size]));
  }

  /** The share of the entries that is below the threshold. */
  get belowThreshold(): number {
    return tidy(() => sum(cast(less(abs(this.values()), this.#threshold), 'int32')).dataSync()[0]) / this.size;
  }

  /** Entries that train still. */
  get trainingCount(): number {
    return tidy(() => sum(cast(this.trains(), 'int32')).dataSync()[0]);
  }

  /** The values in use less `original` `[k]`, in their places. The caller disposes of it. */
  changeFrom(original: Tensor): Tensor {
    return tidy(() => scatterMaskedInto(this.#shape, this.places.stored, sub(this.values(), original)));
  }

  /**
   * With `M = P * mask = U S V^T`, the matrix of the values that train: keeps `U V^T` at their places, directions of
   * singular values below 1e-7 of the largest left out, and gives `|M|_* = sum S`.
   */
  prepareRankTerm(): number {
    let norm = 0;
    const gradient = tidy(() => {
      const trains = this.trains();
      const values = where(trains, this.sara_values.stored, zerosLike(this.sara_values.stored));
      const { u, s, vt } = svd(scatterMaskedInto(this.#shape, this.places.stored, values) as Tensor2D);
      norm = sum(s).dataSync()[0];
      const directions = cast(greater(s, s.dataSync()[0] * ZERO_DIRECTION), 'float32');
      const all = gatherMasked(matMul(mul(u, directions), vt), this.places.stored);
      return where(trains, all, zerosLike(all));
    });
    this.rankGradient?.assign(gradient);
    return norm;
  }

  clearRankTerm(): void {
    this.rankGradient?.assign(zeros([this.size]));
  }

  /** `<U V^T, P>`, which where it was prepared has the value and the gradient of the nuclear norm, else 0. */
  rankTerm(): Scalar | undefined {
    const { rankGradient } = this;
    return rankGradient && tidy((): Scalar => sum(mul(rankGradient.stored, this.sara_values.value)));
  }
}
