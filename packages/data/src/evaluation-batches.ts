import { ConfigError, checkInteger } from '@ashlar/tensor';
import type { Tokens } from './pack-tokens.ts';
import { type TokenBatch, windowBatch } from './token-batches.ts';

export interface EvaluationBatchesOptions {
  /** Windows per batch. */
  batchSize: number;
  /** Tokens per window. */
  sequenceLength: number;
  /** What fills up the inputs of the last window; default 0. Its labels are -100 there. */
  padId?: number;
}

/** Batches in a fixed order, which can be gone through any number of times. */
export interface EvaluationBatches extends Iterable<TokenBatch> {
  /** How many batches there are. */
  readonly length: number;
}

/**
 * All of the tokens in order, in windows that do not overlap, so that every token but the first is a label exactly once:
 * what held-out loss and perplexity are measured on. The last window is filled up with labels -100 (cross entropy's
 * `ignoreIndex`), and so is the last batch with such windows: all batches have one shape. A text of fewer windows than
 * `batchSize` makes one batch of just those.
 *
 * Each batch belongs to the caller, who disposes of it.
 * @throws ConfigError for options out of range and for fewer than two tokens.
 */
export function evaluationBatches(tokens: Tokens, options: EvaluationBatchesOptions): EvaluationBatches {
  const { padId = 0 } = options;
  const sequenceLength = checkInteger('evaluationBatches', 'sequenceLength', options.sequenceLength);
  if (tokens.length < 2) {
    throw new ConfigError(
      `evaluationBatches: there are ${tokens.length} tokens; at least 2 are needed, one to predict the other from. Hold out more text.`,
    );
  }
  const windows = Math.ceil((tokens.length - 1) / sequenceLength);
  const rows = Math.min(windows, checkInteger('evaluationBatches', 'batchSize', options.batchSize));
  const length = Math.ceil(windows / rows);
  return {
    length,
    *[Symbol.iterator]() {
      for (let batch = 0; batch < length; batch++) {
        const starts = Array.from({ length: rows }, (_, row) => (batch * rows + row) * sequenceLength);
        yield windowBatch(tokens, starts, sequenceLength, padId);
      }
    },
  };
}
