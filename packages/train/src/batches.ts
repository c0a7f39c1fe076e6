import { ConfigError, dispose, FormatError, type Signals, type TensorContainer } from '@ashlar/tensor';
import type { Json } from './json.ts';

/** How long the event loop may wait at most, a batch's own time aside. */
const BREATH_MS = 50;

/** The named tensors that one forward pass takes. */
export type Batch = Signals;

/** Batches that know where they stand, so that a resumed run needs not read again what it has seen. */
export interface ResumableBatches {
  /** Where the next batch comes from, as plain JSON. */
  state(): Json;
  /** Makes the next iteration begin where `state` was taken. */
  restore(state: Json): void;
}

/** Batches that can be gone through again and again; one pass is an epoch. */
export type BatchIterable<B extends Batch> = (Iterable<B> | AsyncIterable<B>) & Partial<ResumableBatches>;

/**
 * Where training batches come from: an iterable, or a function from the number of the batch (from 0) to the batch.
 *
 * An array's batches stay the caller's. All others are taken to be made on the way, and are disposed of after use.
 */
export type BatchSource<B extends Batch> = BatchIterable<B> | ((index: number) => B | Promise<B>);

/** Where a stream of batches stands. */
export interface BatchPosition {
  readonly epoch: number;
  /** Batches taken in this epoch. */
  readonly index: number;
  /** The source's own state, where it has one. */
  readonly source?: Json;
}

/** One endless stream over the epochs of a source, which can tell and take up its position. */
export class BatchStream<B extends Batch> {
  readonly #source: BatchSource<B>;
  readonly #epochs: number;
  #iterator: Iterator<B> | AsyncIterator<B> | undefined;
  #epoch = 0;
  #index = 0;
  #breathedAt: number = performance.now();

  constructor(source: BatchSource<B>, epochs: number = Infinity) {
    this.#source = source;
    this.#epochs = epochs;
  }

  /** Epochs completed. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Batches per epoch, where the source has a length. */
  get length(): number | undefined {
    const source = this.#source;
    return typeof source !== 'function' && 'length' in source && typeof source.length === 'number'
      ? source.length
      : undefined;
  }

  /** The next batch, for `release` after use; undefined once all epochs are over. */
  async next(): Promise<B | undefined> {
    await this.#breathe();
    if (typeof this.#source === 'function') return this.#source(this.#index++);
    while (this.#epoch < this.#epochs) {
      this.#iterator ??= iterate(this.#source);
      const result = await this.#iterator.next();
      if (!result.done) {
        this.#index++;
        return result.value;
      }
      if (this.#index === 0) throw new ConfigError('batches is empty; it must give at least one batch per epoch.');
      this.#iterator = undefined;
      this.#epoch++;
      this.#index = 0;
    }
    return undefined;
  }

  /** Disposes of a batch unless it is the caller's. */
  release(batch: B): void {
    releaseBatch(this.#source, batch);
  }

  position(): BatchPosition {
    const position = { epoch: this.#epoch, index: this.#index };
    return isResumable(this.#source) ? { ...position, source: this.#source.state() } : position;
  }

  /**
   * Continues from `position`. A source without a state of its own is read again up to there.
   * @throws FormatError if the source has fewer batches than that.
   */
  async seek({ epoch, index, source }: BatchPosition): Promise<void> {
    this.#epoch = epoch;
    if (typeof this.#source === 'function') {
      this.#index = index;
    } else if (isResumable(this.#source)) {
      if (source === undefined) throw new FormatError('The checkpoint has no state for batches; were they replaced?');
      this.#source.restore(source);
      this.#index = index;
    } else {
      this.#index = 0;
      while (this.#index < index) {
        const batch = await this.next();
        if (batch === undefined || this.#epoch !== epoch) {
          throw new FormatError(
            `The checkpoint continues after batch ${index} of an epoch, but batches has fewer; were they replaced?`,
          );
        }
        this.release(batch);
      }
    }
  }

  /** Lets the source release what it holds open. */
  async close(): Promise<void> {
    await this.#iterator?.return?.();
    this.#iterator = undefined;
  }

  /** Gives timers, signals and input their turn; a loop that awaits only what is there already never does. */
  async #breathe(): Promise<void> {
    if (performance.now() - this.#breathedAt < BREATH_MS) return;
    await new Promise((resolve) => setTimeout(resolve));
    this.#breathedAt = performance.now();
  }
}

/** Disposes of a batch that was made on the way; those of an array are the caller's. */
export function releaseBatch<B extends Batch>(source: BatchSource<B>, batch: B): void {
  if (!Array.isArray(source)) dispose(batch as TensorContainer);
}

function iterate<B extends Batch>(source: BatchIterable<B>): Iterator<B> | AsyncIterator<B> {
  return Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
}

function isResumable<B extends Batch>(source: BatchSource<B>): source is BatchIterable<B> & ResumableBatches {
  return typeof source !== 'function' && typeof source.state === 'function' && typeof source.restore === 'function';
}
