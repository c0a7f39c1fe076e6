/** The memory behind one or more tensors' values (a slice shares its parent's). */
export interface Block {
  readonly buffer: ArrayBuffer;
  /** How many tensors' values lie in it. */
  uses: number;
  /** Whether someone outside the backend may hold its values, so that it must never be written again. */
  escaped: boolean;
}

/** What the pool holds, in bytes and counts since the start. */
export interface PoolStats {
  /** Bytes waiting for reuse. */
  freeBytes: number;
  /** The most bytes that may wait. */
  limitBytes: number;
  reused: number;
  allocated: number;
}

/**
 * Keeps the buffers of disposed results for results of the same size to come: a fresh 4 MB buffer costs its page
 * faults, which can take longer than the arithmetic. Sizes match exactly, so that `dataSync().buffer` holds a tensor's
 * elements and nothing else. When over its limit it drops the sizes that have gone unused longest.
 */
export class BufferPool {
  /** Least recently used size first. */
  readonly #free = new Map<number, ArrayBuffer[]>();
  #freeBytes = 0;
  #reused = 0;
  #allocated = 0;

  constructor(
    readonly limitBytes: number,
    /** Buffers under this many bytes are left to the garbage collector. */
    readonly minBytes: number = 16 * 1024,
  ) {}

  /** A block of exactly `bytes` bytes, its contents arbitrary; `undefined` when too small to be worth pooling. */
  take(bytes: number): Block | undefined {
    if (bytes < this.minBytes) return undefined;
    const list = this.#free.get(bytes);
    const buffer = list?.pop();
    if (list) {
      this.#free.delete(bytes);
      if (list.length > 0) this.#free.set(bytes, list);
    }
    if (buffer) {
      this.#freeBytes -= bytes;
      this.#reused++;
      return { buffer, uses: 1, escaped: false };
    }
    this.#allocated++;
    return { buffer: new ArrayBuffer(bytes), uses: 1, escaped: false };
  }

  /** One tensor fewer uses `block`; the last one returns it, unless its values escaped. */
  release(block: Block): void {
    if (--block.uses > 0 || block.escaped) return;
    const bytes = block.buffer.byteLength;
    if (bytes > this.limitBytes || bytes === 0) return;
    const list = this.#free.get(bytes) ?? [];
    list.push(block.buffer);
    this.#free.delete(bytes);
    this.#free.set(bytes, list);
    this.#freeBytes += bytes;
    while (this.#freeBytes > this.limitBytes) this.#dropOldest();
  }

  /** Give every waiting buffer to the garbage collector. */
  clear(): void {
    this.#free.clear();
    this.#freeBytes = 0;
  }

  stats(): PoolStats {
    return {
      freeBytes: this.#freeBytes,
      limitBytes: this.limitBytes,
      reused: this.#reused,
      allocated: this.#allocated,
    };
  }

  #dropOldest(): void {
    const [bytes, list] = this.#free.entries().next().value!;
    list.pop();
    this.#freeBytes -= bytes;
    if (list.length === 0) this.#free.delete(bytes);
  }
}
