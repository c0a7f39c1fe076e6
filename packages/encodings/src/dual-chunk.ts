import { ConfigError, checkInteger } from '@ashlar/tensor';
import { maskOf, type Region, RegionalRope, type RegionalRopeOptions } from './regional-rope.ts';

/**
 * Dual chunk attention: positions go round in chunks of `c = chunkSize - localWindow`, keys stand at `j mod c`. A query stands at
 * `i mod c` for its own chunk, at `min(i mod c + c, chunkSize)` for the one before, and at `min(2c - 1, chunkSize)` for all
 * older ones. For rotary models past their trained length, without training.
 *
 * Source: An et al., "Training-Free Long-Context Scaling of Large Language Models" (2024, arXiv 2402.17463).
 */
export class DualChunk extends RegionalRope {
  readonly chunkSize: number;
  readonly localWindow: number;

  /**
   * @param options.chunkSize three quarters of the trained length, say. @param options.localWindow an eighth of it.
   * @throws ConfigError for an option out of range, ShapeError if the channels cannot be paired.
   */
  constructor(options: RegionalRopeOptions & { readonly chunkSize: number; readonly localWindow: number }) {
    super(options);
    const { chunkSize, localWindow } = options;
    checkInteger('DualChunk', 'chunkSize', chunkSize);
    checkInteger('DualChunk', 'localWindow', localWindow, 0);
    if (localWindow >= chunkSize) {
      throw new ConfigError(`DualChunk: localWindow is ${localWindow}; it must be below chunkSize, ${chunkSize}.`);
    }
    this.chunkSize = chunkSize;
    this.localWindow = localWindow;
  }

  protected override regions(): Region[] {
    const { chunkSize } = this;
    const chunk = chunkSize - this.localWindow;
    const key = (position: number): number => position % chunk;
    const chunksAgo = (p: number, t: number): number => Math.floor(p / chunk) - Math.floor(t / chunk);
    return [
      { key, query: key, mask: (query, keys) => maskOf(query, keys, (p, t) => chunksAgo(p, t) <= 0) },
      {
        key,
        query: (position) => Math.min((position % chunk) + chunk, chunkSize),
        mask: (query, keys) => maskOf(query, keys, (p, t) => chunksAgo(p, t) === 1),
      },
      { key, query: () => Math.min(2 * chunk - 1, chunkSize) },
    ];
  }
}
