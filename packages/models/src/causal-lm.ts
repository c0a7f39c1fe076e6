import { type KeyValueCache, tokenPositions } from '@ashlar/nn';
import {
  ConfigError,
  checkEncoding,
  Module,
  type PositionEncoding,
  quote,
  type Rng,
  ShapeError,
  slice,
  type Tensor,
} from '@ashlar/tensor';

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
  /** Class of the position encoding that the model was given; published configs have none. */
  readonly position_encoding?: string | null;
}

/**
 * `config` with the class of the encoding that the model is given in place of its own.
 * @throws ConfigError if that is no encoding, or not of the class that the config already names.
 */
export function withEncoding<T extends CausalLMConfig>(
  owner: string,
  config: T,
  { encoding, source }: ModelOptions,
): T {
  if (encoding !== undefined) checkEncoding(owner, encoding);
  const given = encoding && (encoding.constructor?.name || 'Object');
  const saved = config.position_encoding ?? given;
  if (saved !== given) {
    throw new ConfigError(
      `${source === undefined ? '' : `${source}: `}position_encoding is ${quote(saved)}, whose options no config holds; ` +
        `pass { encoding } of that class, made as for the saved model${given === undefined ? '' : `, not a ${given}`}.`,
    );
  }
  return given === undefined ? config : { ...config, position_encoding: given };
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
