import { ConfigError, quote } from '@ashlar/tensor';
import { Rope, type RopeOptions } from './rope.ts';
import type { RopeScaling } from './rope-scaling.ts';

/** `rope_parameters` of newer configs: scaling, base and fraction in one. */
type RopeParameters = RopeScaling & {
  readonly rope_theta?: number | null;
  readonly partial_rotary_factor?: number | null;
};

/** The fields of a Hugging Face `config.json` that RoPE depends on; others are ignored, and null is as absent. */
export interface RopeModelConfig {
  readonly hidden_size?: number | null;
  readonly num_attention_heads?: number | null;
  readonly head_dim?: number | null;
  readonly max_position_embeddings?: number | null;
  /** In place of that of the scaling. */
  readonly original_max_position_embeddings?: number | null;
  readonly rope_theta?: number | null;
  /** Taken before `rope_parameters`, unless it is empty. */
  readonly rope_scaling?: RopeParameters | null;
  readonly rope_parameters?: RopeParameters | null;
  readonly partial_rotary_factor?: number | null;
}

/**
 * The RoPE of a published model, from its `config.json` (Llama, Mistral, Qwen, Phi, GPT-NeoX …), as transformers 5 reads it.
 * @param options override what the config says, or add what it does not (`layout`, `maxCached`).
 * @throws ConfigError if the size of a head cannot be told, or as `Rope`.
 */
export function ropeFromConfig(config: RopeModelConfig, options: Partial<RopeOptions> = {}): Rope {
  if (typeof config !== 'object' || config === null) {
    throw new ConfigError(`ropeFromConfig: the config is ${quote(config)}; it must be the object of a config.json.`);
  }
  const { hidden_size, num_attention_heads, original_max_position_embeddings } = config;
  const headDim =
    config.head_dim ?? (hidden_size && num_attention_heads ? hidden_size / num_attention_heads : undefined);
  if (headDim === undefined && options.headDim === undefined) {
    throw new ConfigError('ropeFromConfig: the config needs head_dim, or hidden_size and num_attention_heads.');
  }
  const parameters = isEmpty(config.rope_scaling) ? config.rope_parameters : config.rope_scaling;
  return new Rope({
    headDim: headDim as number,
    base: parameters?.rope_theta ?? config.rope_theta ?? undefined,
    fraction: parameters?.partial_rotary_factor ?? config.partial_rotary_factor ?? undefined,
    scaling:
      original_max_position_embeddings && !isEmpty(parameters)
        ? { ...parameters, original_max_position_embeddings }
        : parameters,
    maxPositions: config.max_position_embeddings,
    ...options,
  });
}

function isEmpty(parameters: RopeParameters | null | undefined): boolean {
  return parameters == null || (typeof parameters === 'object' && Object.keys(parameters).length === 0);
}
