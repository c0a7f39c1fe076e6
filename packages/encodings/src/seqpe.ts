import {
  add,
  all,
  Buffer,
  ConfigError,
  cast,
  checkChoice,
  checkInteger,
  checkNumber,
  checkOptions,
  checkRng,
  concat,
  type EncodingContext,
  equal,
  Module,
  mul,
  oncePerPass,
  type PositionEncoding,
  type Rng,
  reshape,
  type Scalar,
  scalar,
  slice,
  split,
  type Tensor,
  tensor,
  tensor2d,
  tidy,
  unstack,
  zeros,
} from '@ashlar/tensor';
import { checkPlaces, placesOf } from './position-digits.ts';
import { PositionInjection, type PositionInjectionOptions } from './position-injection.ts';
import {
  type ContrastivePositionLossOptions,
  checkContrastiveLoss,
  checkTransferLoss,
  contrastivePositionLoss,
  type PositionTransferLossOptions,
  positionTransferLoss,
} from './seqpe-losses.ts';
import {
  type ContrastiveBatchOptions,
  checkContrastive,
  checkTransfer,
  checkWindow,
  contrastiveBatch,
  type Place,
  type PositionSpace,
  type TransferBatchOptions,
  transferBatch,
  windowStarts,
} from './seqpe-samplers.ts';
import { SequentialPositionEncoder, type SequentialPositionEncoderOptions } from './sequential-position-encoder.ts';

/** What training adds to the task. */
export interface SeqPeTrainingOptions {
  /** Sides of the window of positions, from the origin, that the model trains on: its length, or its height and width. */
  readonly window: number | Place;
  /** How often the main window is moved to a random start. Default 0.1. */
  readonly shiftRate?: number;
  /** Starts to choose from, drawn once. Default 320. */
  readonly starts?: number;
  /** False for none. Default weight 0.1. */
  readonly contrastive?:
    | false
    | (ContrastiveBatchOptions & ContrastivePositionLossOptions & { readonly weight?: number });
  /** False for none. Default weight 0.1, `heads` as those of attention. */
  readonly transfer?: false | (TransferBatchOptions & PositionTransferLossOptions & { readonly weight?: number });
}

export interface SeqPeOptions
  extends Pick<
    PositionInjectionOptions,
    'kvHeads' | 'headDim' | 'perHead' | 'scalarScale' | 'projectionBias' | 'rng' | 'init'
  > {
  /** How the model meets the vectors of positions: added to tokens, or see `PositionInjection`. */
  readonly mode: 'input_add' | PositionInjectionOptions['mode'];
  /** The encoder; in mode `'input_add'` its `outDim` is the model's width. */
  readonly encoder: Omit<SequentialPositionEncoderOptions, 'maxDigits' | 'axes' | 'rng' | 'init'>;
  /** Coordinates of a position. Default 1. */
  readonly axes?: number;
  /** Positions that training prepares for: with several axes in all, so `100 x 100` are 10000. Default 20000. */
  readonly maxPosition?: number;
  /** Of a coordinate. Default those of the last below `maxPosition`. More of them make room for positions beyond it. */
  readonly maxDigits?: number;
  /** Of attention; needed in all modes but `'input_add'`, and in `'attn_scalar'` so is `headDim`. */
  readonly heads?: number;
  /** How many attention layers have a projection of positions of their own. Default: one that all layers share. */
  readonly layers?: number;
  /** Default: no shifts and no losses beside the task's. */
  readonly training?: SeqPeTrainingOptions;
}

/**
 * SeqPE: a small Transformer reads positions digit by digit, `e = SequentialPositionEncoder(p)`, and `e` is added to the
 * tokens (`input_add`) or acts on queries and keys or logits (`attn_mul`, `attn_add`, `attn_scalar`: `PositionInjection`).
 * One code for any number of axes, and a vector for any position of `maxDigits` digits.
 *
 * With `training`, call `sample()` before each step and add `auxiliaryLoss()` to the loss: close positions then have similar
 * vectors, windows out of range look like the trained one, and some steps see the trained window elsewhere. All of a batch
 * is moved alike. `lossAndGrads` encodes positions once for all layers; `remember` does so for evaluation.
 *
 * Source: "SeqPE: Transformer with Sequential Position Encoding" (2025, arXiv 2506.13277).
 */
export class SeqPe extends Module<[Tensor]> implements PositionEncoding {
  readonly encoder: SequentialPositionEncoder;
  /** One for each layer, or one for all; none in mode `'input_add'`. */
  readonly injections: PositionInjection[];
  /** Draws shifts and samples; its state belongs to a checkpoint. */
  readonly rng: Rng;
  /** The start of the main window, `[axes]`. */
  readonly origin?: Buffer;
  /** Each pivot and its candidates, `[pivots, 1 + candidates, axes]`, and which of these is nearest, `[pivots]`. */
  readonly contrast?: { readonly places: Buffer; readonly labels: Buffer };
  /** Of teachers and students, `[2, windows, positions, axes]`. */
  readonly windows?: Buffer;
  /** In mode `'input_add'`: `[seq]` or `[seq, axes]` to `[seq, outDim]`. */
  readonly embed?: (positions: Tensor) => Tensor;
  /** In modes `'attn_mul'` and `'attn_add'`: queries and keys with their positions. */
  readonly rotate?: NonNullable<PositionEncoding['rotate']>;
  /** In mode `'attn_scalar'`: `[heads, q, k]`. */
  readonly bias?: NonNullable<PositionEncoding['bias']>;
  readonly #space: PositionSpace;
  readonly #training: Training | undefined;
  #known: { readonly version: readonly unknown[]; readonly rows: ReadonlyMap<string, Float32Array> } | undefined;

  /** @throws ConfigError for an option out of range, or sizes that do not fit one another. */
  constructor(options: SeqPeOptions) {
    super();
    const { mode, axes = 1, maxPosition = 20000, heads = 1, layers = 1, rng, init } = checkOptions('SeqPe', options);
    checkRng('SeqPe', rng);
    checkChoice('SeqPe', 'mode', mode, ['input_add', 'attn_mul', 'attn_add', 'attn_scalar'] as const);
    checkInteger('SeqPe', 'axes', axes);
    checkInteger('SeqPe', 'maxPosition', maxPosition, 2 ** axes);
    checkInteger('SeqPe', 'layers', layers);
    if (mode !== 'input_add') checkInteger('SeqPe', 'heads', options.heads ?? Number.NaN);
    const { base = 10 } = checkOptions('SeqPe: encoder', options.encoder);
    checkInteger('SeqPe', 'encoder.base', base, 2, 36);
    const extent = sideOf(maxPosition, axes);
    const least = (extent - 1).toString(base).length;
    const { maxDigits = least } = options;
    if (maxDigits < least) {
      throw new ConfigError(
        `SeqPe: maxDigits is ${maxDigits}; coordinates up to ${extent - 1} (maxPosition) have ${least} digits.`,
      );
    }
    this.rng = rng.fork('samples');
    this.#space = { axes, extent, base };
    const own = { maxDigits, axes, init };
    this.encoder = new SequentialPositionEncoder({ ...options.encoder, ...own, rng: rng.fork('encoder') });
    const { outDim: peDim } = this.encoder;
    this.injections =
      mode === 'input_add'
        ? []
        : Array.from(
            { length: layers },
            (_, i) => new PositionInjection({ ...options, mode, heads, peDim, rng: rng.fork('injections').fork(i) }),
          );
    if (mode === 'input_add') this.embed = (positions) => this.apply(positions);
    else if (mode === 'attn_scalar') this.bias = (...call) => this.#bias(...call);
    else this.rotate = (...call) => this.#rotate(...call);
    if (options.training === undefined) return;
    this.#training = trainingOf(options.training, this.#space, heads, peDim, rng);
    const { contrastive, transfer } = this.#training;
    this.origin = samples([axes]);
    if (contrastive !== undefined) {
      const { pivots, candidates } = contrastive;
      this.contrast = { places: samples([pivots, 1 + candidates, axes]), labels: samples([pivots]) };
    }
    if (transfer !== undefined) this.windows = samples([2, transfer.windows, transfer.positions, axes]);
    this.sample();
  }

  /**
   * The vectors of positions: `[seq]` or `[seq, axes]` to `[seq, outDim]`.
   * @throws ConfigError for a coordinate that is negative, fractional or longer than `maxDigits`, or, where training shifts
   *   it, outside of the window; ShapeError for one too many or too few.
   */
  override forward(positions: Tensor): Tensor {
    const values = checkPlaces('SeqPe', positions, this.encoder);
    const known = this.training ? undefined : this.#remembered(values);
    if (known !== undefined) return known;
    const { origin } = this;
    const shifts = this.training && origin !== undefined;
    if (shifts) this.#checkInside(values);
    return oncePerPass(this, [positions], () =>
      tidy(() => {
        const places = placesOf(values, [values.length / this.#space.axes, this.#space.axes]);
        return this.encoder.apply(shifts ? add(places, origin.stored) : places, { checked: true });
      }),
    );
  }

  /** Draws the next step's shift and samples. Outside of functions under `jit`, before they run. */
  sample(): void {
    if (this.#training === undefined) return;
    const { shiftRate, starts, window, contrastive, transfer } = this.#training;
    const { rng } = this;
    const shifted = rng.uniformArray(1)[0] < shiftRate;
    fill(this.origin, shifted ? starts[rng.integer(0, starts.length)] : window.map(() => 0));
    if (contrastive !== undefined) {
      const { pivots, candidates, labels } = contrastiveBatch(this.#space, contrastive, rng);
      fill(this.contrast?.places, pivots.map((pivot, i) => [pivot, ...candidates[i]]).flat(2));
      fill(this.contrast?.labels, labels);
    }
    if (transfer === undefined) return;
    const { teacher, student } = transferBatch(this.#space, window, transfer, rng);
    fill(this.windows, [teacher, student].flat(3));
  }

  /**
   * `w_c L_c + w_t L_t` of the samples last drawn, the second while the main window is not shifted; 0 without `training`.
   * Under `jit` with `moduleState` of the model, the samples are part of the state.
   */
  auxiliaryLoss(): Scalar {
    const { contrastive, transfer } = this.#training ?? {};
    const { contrast, windows, origin } = this;
    const vectorsOf = (x: Tensor): Tensor => reshape(x, [-1, this.encoder.outDim]);
    return tidy(() => {
      const [ofContrast, ofWindows] = this.#encodeTogether([contrast?.places, windows]);
      const terms: Tensor[] = [scalar(0)];
      if (contrastive && contrast && ofContrast) {
        const [pivots, others] = split(ofContrast, [1, contrastive.candidates], 1).map(vectorsOf);
        const loss = contrastivePositionLoss(pivots, others, contrast.labels.stored, contrastive);
        terms.push(mul(loss, contrastive.weight));
      }
      if (transfer && origin && ofWindows) {
        const [teacher, student] = unstack(ofWindows);
        const still = cast(all(equal(origin.stored, 0)), 'float32');
        terms.push(mul(positionTransferLoss(teacher, student, transfer), mul(still, transfer.weight)));
      }
      return terms.reduce(add) as Scalar;
    });
  }

  /**
   * Encodes these positions once: until the encoder changes, evaluation takes their vectors from here, as constants.
   * @throws ConfigError in training, and as `forward`.
   */
  remember(positions: Tensor): void {
    if (this.training) throw new ConfigError('SeqPe: remember is for evaluation; call eval() before it.');
    const values = checkPlaces('SeqPe', positions, this.encoder);
    const vectors = tidy(() => this.encoder.apply(placesOf(values, positions.shape), { checked: true }));
    const data = vectors.dataSync<'float32'>();
    vectors.dispose();
    const { outDim } = this.encoder;
    const rows = this.#keys(values).map((key, i): [string, Float32Array] => [
      key,
      data.slice(i * outDim, (i + 1) * outDim),
    ]);
    this.#known = { version: this.#version(), rows: new Map(rows) };
  }

  /** The vectors of the positions in each buffer, all encoded in one pass: `[..., axes]` to `[..., outDim]`. */
  #encodeTogether(buffers: readonly (Buffer | undefined)[]): (Tensor | undefined)[] {
    const rows = buffers.flatMap((buffer) => buffer?.stored ?? []).map((x) => reshape(x, [-1, this.#space.axes]));
    if (rows.length === 0) return [];
    const vectors = this.encoder.apply(concat(rows, 0), { checked: true });
    let next = 0;
    return buffers.map((buffer) => {
      if (buffer === undefined) return undefined;
      const begin = next;
      next += buffer.size / this.#space.axes;
      return reshape(slice(vectors, [begin, 0], [next - begin, -1]), [...buffer.shape.slice(0, -1), -1]);
    });
  }

  #rotate(q: Tensor, k: Tensor, qPositions: Tensor, kPositions: Tensor, context: EncodingContext): [Tensor, Tensor] {
    return tidy(() => {
      const injection = this.#injection(context);
      return injection.modulate(q, k, ...this.#project(injection, qPositions, kPositions));
    });
  }

  #bias(qPositions: Tensor, kPositions: Tensor, context: EncodingContext): Tensor {
    return tidy(() => {
      const injection = this.#injection(context);
      return injection.bias(...this.#project(injection, qPositions, kPositions));
    });
  }

  #project(injection: PositionInjection, qPositions: Tensor, kPositions: Tensor): [Tensor, Tensor] {
    const qPe = this.apply(qPositions);
    return injection.apply(qPe, kPositions === qPositions ? qPe : this.apply(kPositions));
  }

  #injection({ layer }: EncodingContext): PositionInjection {
    const { injections } = this;
    const own = injections[injections.length === 1 ? 0 : layer];
    if (own !== undefined) return own;
    throw new ConfigError(`SeqPe: layers is ${injections.length}; layer ${layer} is asked.`);
  }

  #checkInside(values: ArrayLike<number>): void {
    const { shiftRate, window } = this.#training as Training;
    const { axes } = this.#space;
    if (shiftRate === 0) return;
    for (let i = 0; i < values.length; i++) {
      if (values[i] < window[i % axes]) continue;
      throw new ConfigError(
        `SeqPe: coordinate ${values[i]} (index ${i}) is outside of training.window, [${window}], which training shifts; ` +
          'make it larger, or call eval().',
      );
    }
  }

  /** The vectors of positions if all are known and of the encoder as it is. */
  #remembered(values: ArrayLike<number>): Tensor | undefined {
    const known = this.#known;
    if (known === undefined) return undefined;
    const version = this.#version();
    if (known.version.length !== version.length || known.version.some((part, i) => part !== version[i]))
      return undefined;
    const rows = this.#keys(values).map((key) => known.rows.get(key));
    if (!rows.every((row) => row !== undefined)) return undefined;
    return tensor2d(
      rows.flatMap((row) => [...row]),
      [rows.length, this.encoder.outDim],
    );
  }

  #keys(values: ArrayLike<number>): string[] {
    const { axes } = this.#space;
    const flat = Array.from(values);
    return Array.from({ length: flat.length / axes }, (_, i) => String(flat.slice(i * axes, (i + 1) * axes)));
  }

  /** What the encoder's vectors depend on. */
  #version(): unknown[] {
    const modes = [...this.encoder.namedModules()].map(([, module]) => module.signature());
    return [...modes, ...this.encoder.parameters().map(({ stored }) => stored)];
  }
}

interface Training {
  readonly window: Place;
  readonly shiftRate: number;
  readonly starts: readonly Place[];
  readonly contrastive?: Required<ContrastiveBatchOptions & ContrastivePositionLossOptions> & {
    readonly weight: number;
  };
  readonly transfer?: Required<TransferBatchOptions & PositionTransferLossOptions> & { readonly weight: number };
}

/** The options with their defaults, checked. */
function trainingOf(
  options: SeqPeTrainingOptions,
  space: PositionSpace,
  heads: number,
  dim: number,
  rng: Rng,
): Training {
  const { shiftRate = 0.1, starts = 320, contrastive = {}, transfer = {} } = checkOptions('SeqPe: training', options);
  const window = typeof options.window === 'number' ? [options.window] : options.window;
  checkWindow('SeqPe: training', space, window);
  checkNumber('SeqPe: training.shiftRate', shiftRate, { min: 0, max: 1 });
  return {
    window: [...window],
    shiftRate,
    starts: windowStarts(space, window, starts, rng.fork('starts')),
    ...(contrastive && {
      contrastive: {
        ...checkContrastive(space, contrastive),
        ...checkContrastiveLoss(dim, contrastive),
        weight: weightOf(contrastive),
      },
    }),
    ...(transfer && {
      transfer: {
        ...checkTransfer(space, window, transfer),
        ...checkTransferLoss(dim, { heads, ...transfer }),
        weight: weightOf(transfer),
      },
    }),
  };
}

function weightOf({ weight = 0.1 }: { readonly weight?: number }): number {
  if (Number.isFinite(weight) && weight >= 0) return weight;
  throw new ConfigError(`SeqPe: weight is ${weight}; it must be a finite number of at least 0.`);
}

/** The largest whole number whose power is at most `maxPosition`. */
function sideOf(maxPosition: number, axes: number): number {
  const root = Math.round(maxPosition ** (1 / axes));
  return root ** axes > maxPosition ? root - 1 : root;
}

/** Numbers that each step draws anew: no part of what is saved. */
function samples(shape: number[]): Buffer {
  return new Buffer({ shape, dtype: 'int32', init: () => zeros(shape, 'int32') }, { persistent: false });
}

function fill(buffer: Buffer | undefined, values: readonly number[]): void {
  buffer?.assign(tensor(Int32Array.from(values), buffer.shape, 'int32'));
}
