import { BatchNorm, Conv2d, Linear } from '@ashlar/nn';
import {
  add,
  broadcastTo,
  ConfigError,
  checkChoice,
  checkInteger,
  checkIntegers,
  checkOptions,
  checkRng,
  concat,
  gelu,
  Module,
  type PositionEncoding,
  type Rng,
  range,
  relu,
  reshape,
  ShapeError,
  type Tensor,
  tanh,
  tensor1d,
  tidy,
} from '@ashlar/tensor';
import { gilbertOrder, hilbertOrder, rasterOrder, zigzagOrder } from './patch-orders.ts';
import { checkGrid, checkPositions, wholePositions } from './positions.ts';
import { checkWidth, type SinusoidalLayout, sinusoids } from './sinusoidal.ts';

/** Curves by name. */
type Order = 'gilbert' | 'hilbert' | 'raster' | 'zigzag';

const ORDERS: Readonly<Record<Order, (height: number, width: number) => Int32Array>> = {
  gilbert: gilbertOrder,
  hilbert: hilbertOrder,
  raster: rasterOrder,
  zigzag: zigzagOrder,
};

export interface LoopeOptions {
  /** Rows and columns of patches. */
  readonly grid: readonly [height: number, width: number];
  /** Even. */
  readonly dim: number;
  /** When each patch is visited: a curve by name, or a number for each patch row by row. Default `'gilbert'`. */
  readonly order?: Order | ArrayLike<number>;
  /** Whether a small network moves patches by what the picture shows. Default true. */
  readonly contextBias?: boolean;
  /** Pixels on a side of a patch, for the context bias. Default 16. */
  readonly patchSize?: number;
  /** Widths of its convolutions; the last is 1. Default 32, 16, 8, 4, 1. */
  readonly channels?: readonly number[];
  /** After each of them. Default `'gelu'` (reconstructed). */
  readonly activation?: 'gelu' | 'relu';
  /** Whether pixel coordinates reach it as shares of the picture and not as numbers of pixels. Default false, as written. */
  readonly normalizeCoordinates?: boolean;
  /** Default 10000. */
  readonly base?: number;
  /** Default `'halves'`. */
  readonly layout?: SinusoidalLayout;
  readonly rng: Rng;
}

/**
 * LOOPE: a learned order of patches for the sinusoidal encoding, `X = X_G + X_C`. `X_G` is when the Gilbert curve visits the
 * patch; `X_C = tanh(W BN(convs([row, column, picture])) + b)` in (-1, 1) moves it by what the picture shows. As a
 * `PositionEncoding` it embeds `[seq, 2]` positions (row and column) by the order alone.
 *
 * Source: "LOOPE: Learnable optimal patch order in positional embeddings for vision Transformers" (2025, arXiv 2504.14386).
 * There is no public code: activation, coordinates and initialization are reconstructed.
 */
export class Loope extends Module<[Tensor]> implements PositionEncoding {
  readonly grid: readonly [height: number, width: number];
  readonly dim: number;
  /** `X_G`, row by row. */
  readonly order: Float32Array;
  readonly base: number;
  readonly layout: SinusoidalLayout;
  readonly context?: ContextBias;

  /** @throws ConfigError for an option out of range or an order of another length, ShapeError if `dim` is odd. */
  constructor(options: LoopeOptions) {
    super();
    const {
      dim,
      order = 'gilbert',
      contextBias = true,
      base = 10000,
      layout = 'halves',
    } = checkOptions('Loope', options);
    const [height, width] = checkGrid('Loope', 'grid', options.grid, 2);
    const rng = checkRng('Loope', options.rng);
    checkWidth('Loope', dim, 2, base, layout);
    if (typeof order === 'string') checkChoice('Loope', 'order', order, Object.keys(ORDERS));
    const visits = typeof order === 'string' ? ORDERS[order](height, width) : order;
    if (visits?.length !== height * width) {
      throw new ConfigError(
        `Loope: order has ${visits?.length ?? 'no'} numbers; it must have one for each of ${height * width} patches.`,
      );
    }
    const strange = Array.from(visits).find((visit) => !Number.isFinite(visit));
    if (strange !== undefined) throw new ConfigError(`Loope: order has ${strange}; it must be finite numbers.`);
    this.grid = [height, width];
    this.dim = dim;
    this.order = Float32Array.from(visits);
    this.base = base;
    this.layout = layout;
    if (contextBias) this.context = new ContextBias(options, rng.fork('context'));
  }

  /** Where pictures `[batch, 3, height patchSize, width patchSize]` put their patches: `[batch, height width]`. */
  positions(images: Tensor): Tensor {
    return tidy(() => {
      const order = tensor1d(this.order);
      return this.context === undefined
        ? broadcastTo(order, [images.shape[0], this.order.length])
        : add(order, this.context.apply(images));
    });
  }

  /** `[batch, 3, height patchSize, width patchSize]` to what to add to the patches, `[batch, height width, dim]`. */
  forward(images: Tensor): Tensor {
    return tidy(() => {
      const [batch, count] = [images.shape[0], this.order.length];
      const positions = this.context === undefined ? tensor1d(this.order) : reshape(this.positions(images), [-1]);
      const table = reshape(sinusoids(positions, this.dim, this.base, this.layout), [-1, count, this.dim]);
      return broadcastTo(table, [batch, count, this.dim]);
    });
  }

  /**
   * By the order alone: rows and columns `[seq, 2]` to `[seq, dim]`.
   * @throws ConfigError for a position outside of the grid.
   */
  embed(positions: Tensor): Tensor {
    checkPositions('Loope', positions, 2);
    const values = wholePositions('Loope', positions);
    const [height, width] = this.grid;
    const visits = Float32Array.from({ length: values.length / 2 }, (_, i) => {
      const [row, column] = [values[2 * i], values[2 * i + 1]];
      if (row < height && column < width) return this.order[row * width + column];
      throw new ConfigError(
        `Loope: position [${row}, ${column}] is outside of the grid, ${height} x ${width}; make another for larger pictures.`,
      );
    });
    return tidy(() => sinusoids(tensor1d(visits), this.dim, this.base, this.layout));
  }
}

/** `X_C`, `[batch, patches]`. */
class ContextBias extends Module<[Tensor]> {
  readonly convs: Conv2d[];
  readonly norm: BatchNorm;
  readonly mlp: Linear;
  readonly #shape: readonly [height: number, width: number];
  readonly #activation: 'gelu' | 'relu';
  readonly #normalize: boolean;

  constructor(options: LoopeOptions, rng: Rng) {
    super();
    const { grid, patchSize = 16, channels = [32, 16, 8, 4, 1], activation = 'gelu' } = options;
    checkInteger('Loope', 'patchSize', patchSize);
    checkChoice('Loope', 'activation', activation, ['gelu', 'relu']);
    checkIntegers('Loope', 'channels', channels);
    if (channels.at(-1) !== 1) throw new ConfigError(`Loope: channels is [${channels}]; the last must be 1.`);
    this.convs = channels.map((width, i) => {
      const own = rng.fork(i);
      return i === 0
        ? new Conv2d(5, width, patchSize, { stride: patchSize, rng: own })
        : new Conv2d(channels[i - 1], width, 5, { padding: 2, rng: own });
    });
    this.norm = new BatchNorm(1);
    const patches = grid[0] * grid[1];
    this.mlp = new Linear(patches, patches, { rng: rng.fork('mlp') });
    this.#shape = [grid[0] * patchSize, grid[1] * patchSize];
    this.#activation = activation;
    this.#normalize = options.normalizeCoordinates ?? false;
  }

  override forward(images: Tensor): Tensor {
    const [height, width] = this.#shape;
    const [batch] = images.shape as [number];
    if (images.rank !== 4 || String(images.shape.slice(1)) !== String([3, height, width])) {
      throw new ShapeError(
        `Loope takes pictures [batch, 3, ${height}, ${width}] for its grid and patchSize, not [${images.shape}].`,
      );
    }
    const act = (x: Tensor): Tensor => (this.#activation === 'gelu' ? gelu(x) : relu(x));
    const axis = (size: number, shape: number[]): Tensor => {
      const places = range(0, size);
      const scaled = this.#normalize ? tensor1d(Float32Array.from({ length: size }, (_, i) => i / size)) : places;
      return broadcastTo(reshape(scaled, shape), [batch, 1, height, width]);
    };
    const input = concat([axis(height, [1, 1, -1, 1]), axis(width, [1, 1, 1, -1]), images], 1);
    const features = this.convs.reduce((x, conv) => act(conv.apply(x)), input);
    return tanh(this.mlp.apply(reshape(this.norm.apply(features), [batch, -1])));
  }
}
