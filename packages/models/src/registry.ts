import { ConfigError, closestNames, FormatError, quote } from '@ashlar/tensor';
import type { CausalLM, ModelOptions } from './causal-lm.ts';
import { Gpt2 } from './gpt2.ts';
import { Llama } from './llama.ts';

interface Architecture {
  /** The class in Hugging Face transformers, as `config.json` names it. */
  className: string;
  create(config: unknown, options: ModelOptions): CausalLM;
  /** The model's name for a tensor of a published checkpoint; undefined for one that it does not need. */
  rename(name: string): string | undefined;
}

/** The architectures by `model_type`. */
const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: {
    className: 'LlamaForCausalLM',
    create: (config, options) => new Llama(config, options),
    // Old checkpoints carry the rotary frequencies, which follow from the config.
    rename: (name) => {
      if (name.endsWith('.rotary_emb.inv_freq')) return undefined;
      return /^(embed_tokens|layers|norm)\./.test(name) ? `model.${name}` : name;
    },
  },
  gpt2: {
    className: 'GPT2LMHeadModel',
    create: (config, options) => new Gpt2(config, options),
    rename: (name) => {
      // The causal masks of the first checkpoints, which also lack the prefix.
      if (/(^|\.)attn\.(masked_)?bias$/.test(name)) return undefined;
      return /^(wte|wpe|h|ln_f)\./.test(name) ? `transformer.${name}` : name;
    },
  },
};

/** The `model_type`s that can be made and loaded. */
export const modelTypes: readonly string[] = Object.keys(ARCHITECTURES);

/** @throws FormatError naming the file and the known types; ConfigError where there is no file. */
export function architecture(config: unknown, source?: string): Architecture {
  const type = (config as { model_type?: unknown } | null)?.model_type;
  if (typeof type === 'string' && Object.hasOwn(ARCHITECTURES, type)) return ARCHITECTURES[type];
  const close = typeof type === 'string' ? ` (closest: ${closestNames(type, modelTypes, 1)})` : '';
  const problem = `model_type is ${quote(type)}; it must be one of ${modelTypes.join(', ')}${close}.`;
  throw source === undefined ? new ConfigError(problem) : new FormatError(`${source}: ${problem}`);
}

/**
 * A model of fresh weights, in training mode, from the object of a `config.json`.
 * @throws ConfigError (FormatError with `options.source`) naming the field that is missing or out of range.
 */
export function createModel(config: unknown, options: ModelOptions): CausalLM {
  return architecture(config, options.source).create(config, options);
}
