import { type KeyValueCache, tokenPositions } from '@ashlar/nn';
import { Module, type PositionEncoding, type Rng, ShapeError, slice, type Tensor } from '@ashlar/tensor';

export interface ModelOptions {
  /** Source of the initial weights and of dropout. */
  rng: Rng;
  /** In place of the architecture's own; its parameters, if any, become the model's. */
  encoding?: PositionEncoding;
  /** The file that the config comes from: errors name it and are FormatErrors; without one they are ConfigErrors. */
  source?: string;
}

export interface CausalLMInput {
  /** What earlier tokens left; the new ones are added to it. */
  cache?: KeyValueCache;
  /** Positions of the tokens, `[seq]`. Default 0, 1 …, counted on from the cache. */
  positions?: Tensor;
  /** Logits of the last token only, `[batch, 1, vocab]`. */
  lastOnly?: boolean;
}

/** What every layer of one forward pass shares. */
export interface Pass {
  positions: Tensor;
  cache?: KeyValueCache;
}

/** The fields that every language model's `config.json` has. */
export interface CausalLMConfig {
  readonly model_type: string;
  readonly vocab_size: number;
  /** The token, or tokens, that end a text. */
  readonly eos_token_id?: number | readonly number[];
}

/** A language model: token ids `[batch, seq]` (int32) to logits `[batch, seq, vocab]`. */
export abstract class CausalLM extends Module<[Tensor, CausalLMInput?]> {
  /** As in the model's `config.json`, under Hugging Face's names. */
  abstract readonly config: CausalLMConfig;
  /** Tokens that the model was made for. */
  abstract readonly contextLength: number;

  /** @throws ShapeError unless `ids` is int32 `[batch, seq]`. */
  protected pass(ids: Tensor, { cache, positions }: CausalLMInput): Pass {
    if (ids.rank !== 2 || ids.dtype !== 'int32') {
      throw new ShapeError(`A language model takes int32 token ids [batch, seq], not ${ids.dtype} [${ids.shape}].`);
    }
    return { cache, positions: positions ?? tokenPositions(ids.shape[1] as number, cache?.length) };
  }
}

/** The last of the tokens: `[batch, seq, dim]` to `[batch, 1, dim]`. */
export function lastToken(hidden: Tensor): Tensor {
  return slice(hidden, [0, (hidden.shape[1] as number) - 1, 0], [-1, 1, -1]);
}
