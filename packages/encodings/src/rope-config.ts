import { ConfigError } from '@ashlar/tensor';
import { Rope, type RopeOptions } from './rope.ts';
import type { RopeScaling } from './rope-scaling.ts';

/** The fields of a Hugging Face `config.json` that RoPE depends on; others are ignored. */
export interface RopeModelConfig {
  readonly hidden_size?: number;
  readonly num_attention_heads?: number;
  readonly head_dim?: number | null;
  readonly max_position_embeddings?: number;
  readonly rope_theta?: number;
  readonly rope_scaling?: RopeScaling | null;
  /** Newer configs: scaling, base and fraction in one. */
  readonly rope_parameters?:
    | (RopeScaling & { readonly rope_theta?: number; readonly partial_rotary_factor?: number })
    | null;
  readonly partial_rotary_factor?: number;
}

/**
 * The RoPE of a published model, from its `config.json` (Llama, Mistral, Qwen, Phi, GPT-NeoX …).
 * @param options override what the config says, or add what it does not (`layout`, `maxCached`).
 * @throws ConfigError if the size of a head cannot be told.
 */
export function ropeFromConfig(config: RopeModelConfig, options: Partial<RopeOptions> = {}): Rope {
  const parameters = config.rope_parameters ?? undefined;
  const { hidden_size, num_attention_heads } = config;
  const headDim =
    config.head_dim ?? (hidden_size && num_attention_heads ? hidden_size / num_attention_heads : undefined);
  if (headDim === undefined && options.headDim === undefined) {
    throw new ConfigError('ropeFromConfig: the config needs head_dim, or hidden_size and num_attention_heads.');
  }
  return new Rope({
    headDim: headDim as number,
    base: parameters?.rope_theta ?? config.rope_theta,
    fraction: parameters?.partial_rotary_factor ?? config.partial_rotary_factor,
    scaling: parameters ?? config.rope_scaling ?? undefined,
    maxPositions: config.max_position_embeddings,
    ...options,
  });
}
