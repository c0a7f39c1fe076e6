export {
  identityPositions,
  PositionalAttention,
  type PositionalAttentionOptions,
  positionsForLength,
} from './positional-attention.ts';
export { PositionalTransformer, type PositionalTransformerOptions } from './positional-transformer.ts';
