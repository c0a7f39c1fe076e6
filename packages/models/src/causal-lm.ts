import type { KeyValueCache } from '@ashlar/nn';
import { Module, range, slice, type Tensor } from '@ashlar/tensor';

export interface CausalLMInput {
  /** Keys and values of the tokens before; the new ones are appended. */
  cache?: KeyValueCache;
  /** Positions of the tokens, `[seq]`; default counted on from the cache. Not together with a cache. */
  positions?: Tensor;
  /** Logits of the last token only, `[batch, 1, vocab]`. */
  lastOnly?: boolean;
}

/** A language model: token ids `[batch, seq]` (int32) to logits `[batch, seq, vocab]`. */
export abstract class CausalLM extends Module<[Tensor, CausalLMInput?]> {
  /** As in the model's `config.json`, under Hugging Face's names. */
  abstract readonly config: { readonly model_type: string; readonly vocab_size: number };
  /** Tokens that the model was made for. */
  abstract readonly contextLength: number;

  /** Positions of the queries and of all keys for `seq` new tokens. Runs inside a `tidy`. */
  protected positions(seq: number, { cache, positions }: CausalLMInput): { qPositions: Tensor; kPositions: Tensor } {
    if (positions !== undefined) return { qPositions: positions, kPositions: positions };
    const before = cache?.length ?? 0;
    const kPositions = range(0, before + seq, 1, 'int32');
    return { kPositions, qPositions: before === 0 ? kPositions : range(before, before + seq, 1, 'int32') };
  }
}

/** The last of the tokens: `[batch, seq, dim]` to `[batch, 1, dim]`. */
export function lastToken(hidden: Tensor): Tensor {
  return slice(hidden, [0, (hidden.shape[1] as number) - 1, 0], [-1, 1, -1]);
}
