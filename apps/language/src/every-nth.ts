import { dispose, type Tensor } from '@ashlar/tensor';

/** Every `n`-th batch of a source, the first included; the others are disposed of. */
export class EveryNth<B extends Record<string, Tensor>> implements Iterable<B> {
  readonly #source: Iterable<B>;
  readonly #n: number;

  constructor(source: Iterable<B>, n: number) {
    this.#source = source;
    this.#n = n;
  }

  *[Symbol.iterator](): Generator<B> {
    let index = 0;
    for (const batch of this.#source) {
      if (index++ % this.#n === 0) yield batch;
      else dispose(batch);
    }
  }
}
