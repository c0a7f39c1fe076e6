import {
  ConfigError,
  checkInteger,
  FormatError,
  quote,
  Rng,
  type RngState,
  type Tensor2D,
  tensor2d,
} from '@ashlar/tensor';
import type { Tokens } from './pack-tokens.ts';
import { isObject } from './tokenizer-json.ts';

/** Windows of tokens, one a row. */
export type TokenBatch = {
  /** `[batch, sequence]` int32. */
  readonly inputIds: Tensor2D;
  /** `[batch, sequence]` int32: at each place the token that follows in the text, or -100 to ignore the place. */
  readonly labels: Tensor2D;
};

export interface TokenBatchesOptions {
  /** Windows per batch. */
  batchSize: number;
  /** Tokens per window. */
  sequenceLength: number;
  /** Whether every epoch has an order and an offset of its own; default true. */
  shuffle?: boolean;
  /** Draws orders and offsets; needed to shuffle. Only its key counts, not how much has been drawn from it. */
  rng?: Rng;
  /** Whether the last windows of an epoch are left out if they do not fill a batch; default true. */
  dropLast?: boolean;
}

/** Where `TokenBatches` stand, as plain JSON. */
export type TokenBatchesState = {
  /** Epochs completed. */
  epoch: number;
  /** Batches given out in this epoch. */
  index: number;
  /** What they are made of and how, which must be the same where the state is restored. */
  tokens: number;
  batchSize: number;
  sequenceLength: number;
  shuffle: boolean;
  dropLast: boolean;
  /** The generator that the orders are drawn from; it is restored too. */
  rng: { [Field in keyof RngState]: RngState[Field] } | null;
};

/**
 * Batches of windows of packed tokens. Window `w` of an epoch is the `T` tokens from place `offset + w T`, its labels
 * the `T` tokens from one place further.
 *
 * Shuffled, every epoch draws a new order and a new offset, so that windows differ from epoch to epoch; where there are
 * windows to spare, one window's worth of tokens, at the two ends, sits out each epoch to make room for the offset.
 * Otherwise windows come in order from place 0. Memory beyond the tokens: four bytes per window.
 *
 * One pass over the object is an epoch, or the rest of the one begun. Each batch belongs to the caller, who disposes of
 * it. `state()` and `restore()` continue with the very same batches; `train` of `@ashlar/train` does that by itself.
 * @throws ConfigError for options out of range and for fewer tokens than a batch needs.
 */
export class TokenBatches implements Iterable<TokenBatch> {
  /** Batches per epoch. */
  readonly length: number;
  readonly #tokens: Tokens;
  readonly #options: Required<Omit<TokenBatchesOptions, 'rng'>>;
  readonly #windows: number;
  #rng: Rng | undefined;
  #epoch = 0;
  #index = 0;

  constructor(tokens: Tokens, options: TokenBatchesOptions) {
    const { rng, shuffle = true, dropLast = true } = options;
    const batchSize = checkInteger('TokenBatches', 'batchSize', options.batchSize);
    const sequenceLength = checkInteger('TokenBatches', 'sequenceLength', options.sequenceLength);
    if (shuffle && rng === undefined) throw new ConfigError('TokenBatches: rng is missing; shuffle: true needs one');
    const windows = Math.floor((tokens.length - 1) / sequenceLength);
    checkEnough(tokens.length, (dropLast ? batchSize : 1) * sequenceLength + 1, options);
    this.#tokens = tokens;
    this.#options = { batchSize, sequenceLength, shuffle, dropLast };
    this.#windows = shuffle && windows > batchSize ? windows - 1 : windows;
    this.#rng = shuffle ? rng : undefined;
    this.length = dropLast ? Math.floor(this.#windows / batchSize) : Math.ceil(this.#windows / batchSize);
  }

  *[Symbol.iterator](): Generator<TokenBatch, void, undefined> {
    const { batchSize, sequenceLength } = this.#options;
    const starts = this.#starts();
    try {
      while (this.#index < this.length) {
        const first = this.#index++ * batchSize;
        yield windowBatch(this.#tokens, starts.subarray(first, first + batchSize), sequenceLength);
      }
    } finally {
      // Here also where the loop is left after the last batch; a restored state may stand there too.
      if (this.#index === this.length) {
        this.#epoch++;
        this.#index = 0;
      }
    }
  }

  state(): TokenBatchesState {
    const { batchSize, sequenceLength, shuffle, dropLast } = this.#options;
    const rng = this.#rng?.state() ?? null;
    const tokens = this.#tokens.length;
    return { epoch: this.#epoch, index: this.#index, tokens, batchSize, sequenceLength, shuffle, dropLast, rng };
  }

  /**
   * Makes the next pass begin where `state` was taken. Passes already begun are no longer of use.
   * @throws FormatError if it is no such state, or one of other tokens or options.
   */
  restore(state: unknown): void {
    if (!isObject(state)) throw new FormatError('TokenBatches.restore: not a state. Pass what state() returned.');
    const { epoch, index, rng } = state as TokenBatchesState;
    const own = this.state();
    for (const field of ['tokens', 'batchSize', 'sequenceLength', 'shuffle', 'dropLast'] as const) {
      if (state[field] !== own[field]) {
        throw new FormatError(
          `TokenBatches.restore: ${field} was ${quote(state[field])} and is now ${own[field]}. ` +
            'Continue with the same tokens and options, or start anew.',
        );
      }
    }
    const isCount = (n: unknown, most: number): boolean =>
      Number.isSafeInteger(n) && (n as number) >= 0 && (n as number) <= most;
    if (!isCount(epoch, Number.MAX_SAFE_INTEGER)) {
      throw new FormatError(`TokenBatches.restore: epoch is ${quote(epoch)}; it may be a whole number >= 0`);
    }
    if (!isCount(index, this.length)) {
      throw new FormatError(
        `TokenBatches.restore: index is ${quote(index)}; it may be a whole number in [0, ${this.length}]`,
      );
    }
    if (this.#options.shuffle) this.#rng = Rng.fromState(rng as RngState);
    this.#epoch = epoch;
    this.#index = index;
  }

  /** Where the windows of this epoch begin, in the order of this epoch. */
  #starts(): Int32Array {
    const { sequenceLength } = this.#options;
    const rng = this.#rng?.fork(`epoch ${this.#epoch}`);
    if (rng === undefined) return new Int32Array(this.#windows).map((_, w) => w * sequenceLength);
    const offset = rng.integer(0, this.#tokens.length - this.#windows * sequenceLength);
    return rng.permutation(this.#windows).map((w) => offset + w * sequenceLength);
  }
}

/**
 * The batch of the windows that begin at `starts`. What reaches beyond the tokens is `padId` among the inputs and -100
 * among the labels.
 */
export function windowBatch(tokens: Tokens, starts: ArrayLike<number>, sequenceLength: number, padId = 0): TokenBatch {
  const shape: [number, number] = [starts.length, sequenceLength];
  const inputs = new Int32Array(starts.length * sequenceLength).fill(padId);
  const labels = new Int32Array(starts.length * sequenceLength).fill(-100);
  for (let row = 0; row < starts.length; row++) {
    const start = starts[row];
    const end = Math.min(start + sequenceLength, tokens.length - 1);
    if (start >= end) continue;
    inputs.set(tokens.subarray(start, end), row * sequenceLength);
    labels.set(tokens.subarray(start + 1, end + 1), row * sequenceLength);
  }
  return { inputIds: tensor2d(inputs, shape, 'int32'), labels: tensor2d(labels, shape, 'int32') };
}

function checkEnough(tokens: number, needed: number, { batchSize, sequenceLength }: TokenBatchesOptions): void {
  if (tokens >= needed) return;
  throw new ConfigError(
    `TokenBatches: there are ${tokens} tokens; batchSize ${batchSize} and sequenceLength ${sequenceLength} need at least ` +
      `${needed}. Give more text, or make batchSize or sequenceLength smaller.`,
  );
}
