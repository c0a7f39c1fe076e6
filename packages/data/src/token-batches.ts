import { ConfigError, FormatError, type Rng, type Tensor, tensor2d } from '@ashlar/tensor';
import type { TextDocument } from './text.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Token ids, two bytes each where the vocabulary allows. */
export type Tokens = Uint16Array | Int32Array;

/** Inputs and labels of a language model, int32 `[batch, seq]`; the label of a token is the one after it. */
export type TokenBatch = { inputIds: Tensor; labels: Tensor };

/** Labels that do not count. */
const IGNORED = -100;

/** The tokens of all documents in a row, each ended by the tokenizer's end-of-text token where it has one. */
export function packTokens(documents: Iterable<TextDocument>, tokenizer: Tokenizer): Tokens {
  const { eosTokenId, vocabSize } = tokenizer;
  const parts: Int32Array[] = [];
  for (const { text } of documents) {
    parts.push(tokenizer.encode(text));
    if (eosTokenId !== undefined) parts.push(Int32Array.of(eosTokenId));
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const tokens = vocabSize <= 2 ** 16 ? new Uint16Array(length) : new Int32Array(length);
  let offset = 0;
  for (const part of parts) {
    tokens.set(part, offset);
    offset += part.length;
  }
  return tokens;
}

export interface TokenBatchesOptions {
  batchSize: number;
  /** Tokens per sequence. */
  sequenceLength: number;
  /** Source of the order and of each epoch's offset. */
  rng: Rng;
  /** Default true. */
  shuffle?: boolean;
}

/** Where `TokenBatches` stand. */
export interface TokenBatchesState {
  readonly epoch: number;
  /** Batches given out in this epoch. */
  readonly index: number;
}

/**
 * Training batches of equal windows of a long row of tokens. Each iteration is an epoch: it starts at another offset, so
 * that windows differ from epoch to epoch, and goes through the windows in random order; a last batch that is not full is
 * left out. `state` and `restore` continue anywhere with exactly the same batches.
 */
export class TokenBatches implements Iterable<TokenBatch> {
  /** Batches in an epoch. */
  readonly length: number;
  readonly #tokens: Tokens;
  readonly #options: TokenBatchesOptions;
  #epoch = 0;
  #index = 0;

  /** @throws ConfigError if the tokens do not fill one batch. */
  constructor(tokens: Tokens, options: TokenBatchesOptions) {
    const { batchSize, sequenceLength } = options;
    checkSizes(batchSize, sequenceLength);
    const needed = batchSize * sequenceLength + 1;
    if (tokens.length < needed) {
      throw new ConfigError(
        `The text has ${tokens.length} tokens, but one batch of ${batchSize} sequences of ${sequenceLength} needs ${needed}: ` +
          'give more text, or a smaller batchSize or sequenceLength.',
      );
    }
    this.#tokens = tokens;
    this.#options = options;
    // The offset of an epoch takes up to a window, if there is room.
    const slack = Math.min(sequenceLength - 1, tokens.length - needed);
    this.length = Math.floor((tokens.length - 1 - slack) / sequenceLength / batchSize);
  }

  *[Symbol.iterator](): Generator<TokenBatch> {
    const { batchSize, sequenceLength, rng, shuffle = true } = this.#options;
    const epochRng = rng.fork(this.#epoch);
    const windows = this.length * batchSize;
    const room = Math.min(sequenceLength - 1, this.#tokens.length - 1 - windows * sequenceLength);
    const offset = shuffle ? epochRng.integer(0, room + 1) : 0;
    const order = shuffle ? epochRng.permutation(windows) : Int32Array.from({ length: windows }, (_, i) => i);
    while (this.#index < this.length) {
      const first = this.#index * batchSize;
      const starts = Array.from(order.subarray(first, first + batchSize), (window) => offset + window * sequenceLength);
      this.#index++;
      yield batchAt(this.#tokens, starts, sequenceLength);
    }
    this.#epoch++;
    this.#index = 0;
  }

  state(): { epoch: number; index: number } {
    return { epoch: this.#epoch, index: this.#index };
  }

  /** The next iteration continues from `state`. @throws FormatError unless it is one of these batches. */
  restore(state: unknown): void {
    const { epoch, index } = (state ?? {}) as Partial<Record<keyof TokenBatchesState, unknown>>;
    const whole = (n: unknown, max: number): n is number =>
      Number.isSafeInteger(n) && (n as number) >= 0 && (n as number) <= max;
    if (!whole(epoch, Number.MAX_SAFE_INTEGER) || !whole(index, this.length)) {
      throw new FormatError(
        `A position in these batches has epoch >= 0 and index from 0 to ${this.length}, not ${JSON.stringify(state)}.`,
      );
    }
    this.#epoch = epoch;
    this.#index = index;
  }
}

/**
 * Held-out batches: consecutive windows in order, every token but the first predicted exactly once; the last window is
 * filled up with labels of -100. May be gone through again and again.
 * @throws ConfigError for fewer than two tokens.
 */
export function evaluationBatches(
  tokens: Tokens,
  options: { batchSize: number; sequenceLength: number },
): Iterable<TokenBatch> & { readonly length: number } {
  const { batchSize, sequenceLength } = options;
  checkSizes(batchSize, sequenceLength);
  if (tokens.length < 2) {
    throw new ConfigError(`The held-out text has ${tokens.length} tokens; measuring needs at least 2. Give more text.`);
  }
  const windows = Math.ceil((tokens.length - 1) / sequenceLength);
  return {
    length: Math.ceil(windows / batchSize),
    *[Symbol.iterator]() {
      for (let first = 0; first < windows; first += batchSize) {
        const count = Math.min(batchSize, windows - first);
        const starts = Array.from({ length: count }, (_, i) => (first + i) * sequenceLength);
        yield batchAt(tokens, starts, sequenceLength);
      }
    },
  };
}

function batchAt(tokens: Tokens, starts: readonly number[], sequenceLength: number): TokenBatch {
  const shape: [number, number] = [starts.length, sequenceLength];
  const inputs = new Int32Array(shape[0] * shape[1]);
  const labels = new Int32Array(inputs.length).fill(IGNORED);
  for (const [row, start] of starts.entries()) {
    const end = Math.min(start + sequenceLength, tokens.length - 1);
    inputs.set(tokens.subarray(start, end), row * sequenceLength);
    labels.set(tokens.subarray(start + 1, end + 1), row * sequenceLength);
  }
  return { inputIds: tensor2d(inputs, shape, 'int32'), labels: tensor2d(labels, shape, 'int32') };
}

function checkSizes(batchSize: number, sequenceLength: number): void {
  for (const [name, size] of Object.entries({ batchSize, sequenceLength })) {
    if (!Number.isInteger(size) || size < 1)
      throw new ConfigError(`${name} is ${size}; it must be a positive integer.`);
  }
}
