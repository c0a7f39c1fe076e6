import {
  add,
  Buffer,
  ConfigError,
  cast,
  checkChoice,
  checkInteger,
  checkIntegers,
  checkNumber,
  checkOptions,
  concat,
  cos,
  Module,
  maximum,
  mul,
  Parameter,
  type PositionEncoding,
  repeatInterleave,
  reshape,
  ShapeError,
  sin,
  slice,
  split,
  sub,
  type Tensor,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { checkPositions, MOST, wholePositions } from './positions.ts';

/** `'cosine'`: `[x cos, x sin]`, twice as wide. `'rotary'`: channels `i` and `i + d/2` turn together; the width stays. */
export type LrpeForm = 'cosine' | 'rotary';

export interface MdLrpeOptions {
  /** Channels of a head, `d`. */
  readonly headDim: number;
  /** Key heads, each with angles of its own; the query heads of a group share theirs. Default 1: all heads share them. */
  readonly heads?: number;
  /** Default 1, or as many as `gridShape` has. */
  readonly axes?: number;
  /** Given it, positions `[seq]` count the cells of such a grid, row by row. */
  readonly gridShape?: readonly number[];
  /** How many tokens come before the grid (class token, prefix): positions `[seq]` below this have angle 0. Default 0. */
  readonly extraTokens?: number;
  /** Default `'cosine'`. */
  readonly form?: LrpeForm;
  /** Default 10000. */
  readonly base?: number;
  /** Whether the angles are learned. Default: with several axes. */
  readonly trainable?: boolean;
}

/**
 * MD-LRPE: relative positions on any number of axes at a cost linear in the tokens. A token at `(s_1, …, s_m)` has the angles
 * `concat(s_1 theta, …, s_m theta)`, cut to its channels, with `theta_c = base^(-2c / e)` for the `e` entries of an axis: of
 * the cosine form `ceil(d / m)`, so that `q~_i . k~_j = sum_c q_c k_c cos(theta_c (s_i - s_j))`; of the rotary form, which is
 * `reconstructed`, `d / 2m`.
 *
 * Source: "You Only Scan Once: Efficient Multi-dimension Sequential Modeling with LightNet" (2024, arXiv 2405.21022); LRPE: Qin et al. 2023,
 * arXiv 2307.09270.
 */
export class MdLrpe extends Module<[Tensor, Tensor]> implements PositionEncoding {
  readonly headDim: number;
  readonly axes: number;
  readonly gridShape: readonly number[] | undefined;
  readonly extraTokens: number;
  readonly form: LrpeForm;
  /** `[heads, e]`; a buffer unless it is learned. */
  readonly theta: Parameter | Buffer;

  /** @throws ConfigError for an option out of range, ShapeError if the rotary form cannot pair the channels. */
  constructor(options: MdLrpeOptions) {
    super();
    const {
      headDim,
      heads = 1,
      gridShape,
      extraTokens = 0,
      form = 'cosine',
      base = 10000,
    } = checkOptions('MdLrpe', options);
    const { axes = gridShape?.length ?? 1, trainable = axes > 1 } = options;
    checkInteger('MdLrpe', 'headDim', headDim, 1, MOST);
    checkInteger('MdLrpe', 'heads', heads);
    checkInteger('MdLrpe', 'axes', axes);
    checkInteger('MdLrpe', 'extraTokens', extraTokens, 0);
    checkChoice('MdLrpe', 'form', form, ['cosine', 'rotary']);
    checkNumber('MdLrpe: base', base, { above: 1 });
    if (gridShape !== undefined) checkIntegers('MdLrpe', 'gridShape', gridShape, { length: axes });
    if (form === 'rotary' && headDim % (2 * axes) !== 0) {
      throw new ShapeError(
        `MdLrpe: headDim is ${headDim}; the rotary form turns pairs for each axis, so it must be a multiple of ${2 * axes}.`,
      );
    }
    this.headDim = headDim;
    this.axes = axes;
    this.gridShape = gridShape;
    this.extraTokens = extraTokens;
    this.form = form;
    const shape: [number, number] = [heads, form === 'cosine' ? Math.ceil(headDim / axes) : headDim / 2 / axes];
    const init = (): Tensor =>
      tensor2d(
        Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => base ** ((-2 * (i % shape[1])) / shape[1])),
        shape,
      );
    this.theta = trainable ? new Parameter({ shape, init }) : new Buffer({ shape, init }, { persistent: false });
  }

  /** `[batch, heads, q, headDim]` and `[batch, kvHeads, k, headDim]`; of the cosine form both come out twice as wide. */
  rotate(q: Tensor, k: Tensor, qPositions: Tensor, kPositions: Tensor): [Tensor, Tensor] {
    return tidy(() => [this.apply(q, qPositions), this.apply(k, kPositions)]);
  }

  /**
   * Queries or keys `[batch, heads, seq, headDim]`.
   * @param positions `[seq, axes]`, or `[seq]`: of one axis, or cells of the grid; both counted from the first extra token.
   * @throws ShapeError if the shapes do not fit, ConfigError for a position that is no cell of the grid.
   */
  override forward(x: Tensor, positions: Tensor): Tensor {
    const [heads] = this.theta.shape;
    if (x.rank !== 4 || x.shape[3] !== this.headDim || (x.shape[1] as number) % heads !== 0) {
      throw new ShapeError(
        `MdLrpe: needs [batch, heads, seq, ${this.headDim}] with heads a multiple of its ${heads}, not [${x.shape}].`,
      );
    }
    const angles = this.#angles(positions);
    if (x.shape[2] !== angles.shape[1]) {
      throw new ShapeError(`MdLrpe: ${angles.shape[1]} positions do not fit [${x.shape}].`);
    }
    const groups = (x.shape[1] as number) / heads;
    const [cosines, sines] = [cos(angles), sin(angles)].map((table) =>
      heads === 1 ? table : repeatInterleave(table, groups, 0),
    );
    if (this.form === 'cosine') return concat([mul(x, cosines), mul(x, sines)], 3);
    const [first, second] = split(x, 2, 3);
    return concat([sub(mul(first, cosines), mul(second, sines)), add(mul(second, cosines), mul(first, sines))], 3);
  }

  /** `[heads, seq, headDim]`, of the rotary form half as wide. */
  #angles(positions: Tensor): Tensor {
    const { axes, headDim, form, theta } = this;
    const [heads, entries] = theta.shape;
    const cells = cast(this.#cells(positions), 'float32');
    const values = theta instanceof Parameter ? theta.value : theta.stored;
    const all = mul(reshape(cells, [1, -1, axes, 1]), reshape(values, [heads, 1, 1, entries]));
    const flat = reshape(all, [heads, -1, axes * entries]);
    return form === 'rotary' ? flat : slice(flat, [0, 0, 0], [-1, -1, headDim]);
  }

  /** `[seq, axes]` or, of one axis, `[seq]`. */
  #cells(positions: Tensor): Tensor {
    const { axes, gridShape, extraTokens } = this;
    if (gridShape === undefined) {
      checkPositions('MdLrpe', positions, axes);
      const counted = positions.rank === 1 && extraTokens > 0;
      return counted ? maximum(sub(cast(positions, 'float32'), extraTokens), 0) : positions;
    }
    if (positions?.rank === 2) {
      checkPositions('MdLrpe', positions, axes);
      const places = wholePositions('MdLrpe', positions);
      for (let i = 0; i < places.length; i++) {
        if (places[i] < gridShape[i % axes]) continue;
        throw new ConfigError(
          `MdLrpe: coordinate ${places[i]} (index ${i}) is outside the grid [${gridShape}]; give a larger gridShape, or none.`,
        );
      }
      return tensor2d(Float32Array.from(places), [positions.shape[0], axes]);
    }
    checkPositions('MdLrpe', positions);
    const size = gridShape.reduce((product, length) => product * length, 1);
    const rows = Array.from(wholePositions('MdLrpe', positions), (position) => {
      let rest = Math.max(0, position - extraTokens);
      if (rest >= size) {
        throw new ConfigError(
          `MdLrpe: position ${position} is outside the grid [${gridShape}] after ${extraTokens} extra tokens; give ` +
            'positions [seq, axes] or a larger gridShape.',
        );
      }
      return [...gridShape]
        .reverse()
        .map((length) => {
          const place = rest % length;
          rest = Math.floor(rest / length);
          return place;
        })
        .reverse();
    });
    return tensor2d(rows, [rows.length, axes]);
  }
}
