import type { PositionEncoding } from '@ashlar/tensor';

/**
 * No position encoding: the causal mask alone tells a decoder the order of its tokens.
 *
 * Source: Kazemnejad, Padhi, Natesan Ramamurthy, Das and Reddy, "The impact of positional encoding on length
 * generalization in Transformers" (NeurIPS 2023, arXiv 2305.19466).
 */
export class Nope implements PositionEncoding {
  /** Nothing is added; an interface whose members are all optional asks for at least one of them. */
  readonly embed?: undefined;
}
