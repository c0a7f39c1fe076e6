import { FormatError, quote, type Tensor } from '@ashlar/tensor';
import {
  CONFIG_FILE,
  namingSource,
  readAdapterConfig,
  readAdapterTensors,
  TARGET_FIELDS,
  writeAdapterFiles,
} from '../adapter-files.ts';
import { type CheckedLoraConfig, checkLoraConfig, type LoraConfig } from './config.ts';

/** The fields of `adapter_config.json` that are options here. */
const FIELDS: Readonly<Record<string, keyof LoraConfig>> = {
  r: 'r',
  lora_alpha: 'loraAlpha',
  lora_dropout: 'loraDropout',
  ...TARGET_FIELDS,
  rank_pattern: 'rankPattern',
  alpha_pattern: 'alphaPattern',
  use_rslora: 'useRslora',
  use_dora: 'useDora',
  lora_bias: 'loraBias',
  init_lora_weights: 'initLoraWeights',
  bias: 'bias',
};

/** Fields that change what an adapter computes in ways we do not have; any other value than these is refused. */
const VARIANTS: Readonly<Record<string, readonly unknown[]>> = {
  use_qalora: [false],
  alora_invocation_tokens: [null],
  trainable_token_indices: [null],
  layer_replication: [null],
  target_parameters: [null],
  use_bdlora: [null, false],
  arrow_config: [null],
  kasa_config: [null],
  monteclora_config: [null],
  velora_config: [null],
  megatron_config: [null],
};

/** Fields that say how the adapter came about or where it belongs; they change nothing here. */
const IGNORED = new Set([
  ...['task_type', 'peft_type', 'auto_mapping', 'peft_version', 'base_model_name_or_path', 'revision'],
  ...['inference_mode', 'fan_in_fan_out', 'megatron_core', 'loftq_config', 'eva_config', 'corda_config'],
  ...['lora_ga_config', 'qalora_group_size', 'ensure_weight_tying', 'runtime_config'],
]);

/**
 * Reads the object of an `adapter_config.json`. Fields that are unknown here are kept in `unknownFields`, with one warning
 * on the console, and change nothing.
 * @param source named in errors.
 * @throws FormatError for another kind of adapter or a variant that changes what LoRA computes; ConfigError for a value
 *   out of range.
 */
export function fromPeftConfig(json: unknown, source: string = CONFIG_FILE): CheckedLoraConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new FormatError(`${source} holds no object.`);
  }
  const fields = new Map<string, unknown>(Object.entries(json));
  if (fields.get('peft_type') !== 'LORA') {
    throw new FormatError(`${source}: peft_type is ${quote(fields.get('peft_type'))}, not "LORA".`);
  }
  const config: Record<string, unknown> = {};
  const unknown = new Map<string, unknown>();
  for (const [name, value] of fields) {
    if (Object.hasOwn(FIELDS, name)) {
      if (value !== null) config[FIELDS[name]] = value;
    } else if (Object.hasOwn(VARIANTS, name) || (name.startsWith('use_') && value === true)) {
      if (!(VARIANTS[name] ?? []).includes(value)) {
        throw new FormatError(`${source}: ${name} is ${quote(value)}; this variant of LoRA is not supported.`);
      }
    } else if (!IGNORED.has(name)) {
      unknown.set(name, value);
    }
  }
  if (unknown.size > 0) {
    config.unknownFields = Object.fromEntries(unknown);
    console.warn(`${source}: unknown fields are kept but have no effect: ${[...unknown.keys()].join(', ')}.`);
  }
  for (const name of ['rankPattern', 'alphaPattern']) {
    const value = config[name];
    if (value !== undefined && (typeof value !== 'object' || Array.isArray(value))) {
      throw new FormatError(`${source}: ${name} must be an object from name patterns to numbers.`);
    }
  }
  // `peft` writes the layer selection of a pattern config as null or an empty list.
  if (Array.isArray(config.layersToTransform) && config.layersToTransform.length === 0) delete config.layersToTransform;
  return namingSource(source, () => checkLoraConfig(config as LoraConfig));
}

/** The object that `peft` writes into `adapter_config.json` for `config`. */
export function toPeftConfig(
  config: CheckedLoraConfig,
  options: { fanInFanOut?: boolean; baseModel?: string } = {},
): Record<string, unknown> {
  const { fanInFanOut = false, baseModel = null } = options;
  const json: Record<string, unknown> = {
    ...config.unknownFields,
    peft_type: 'LORA',
    task_type: null,
    base_model_name_or_path: baseModel,
    inference_mode: true,
    fan_in_fan_out: fanInFanOut,
  };
  for (const [name, option] of Object.entries(FIELDS)) json[name] = config[option] ?? null;
  return json;
}

/** PiSSA and OLoRA against the original base are plain LoRA of twice the rank with the same scaling. */
function asPlainLora(config: CheckedLoraConfig): CheckedLoraConfig {
  const twice = (pattern: Readonly<Record<string, number>>, factor: number): Record<string, number> =>
    Object.fromEntries(Object.entries(pattern).map(([key, value]) => [key, value * factor]));
  const alphaFactor = config.useRslora ? Math.SQRT2 : 2;
  return {
    ...config,
    initLoraWeights: true,
    r: config.r * 2,
    loraAlpha: config.loraAlpha * alphaFactor,
    rankPattern: twice(config.rankPattern, 2),
    alphaPattern: twice(config.alphaPattern, alphaFactor),
  };
}

/** Writes the two files. */
export async function writeAdapter(
  dir: string,
  adapter: {
    config: CheckedLoraConfig;
    tensors: ReadonlyMap<string, Tensor>;
    fanInFanOut: boolean;
    asPlainLora: boolean;
    baseModel?: string;
  },
): Promise<void> {
  const config = adapter.asPlainLora ? asPlainLora(adapter.config) : adapter.config;
  await writeAdapterFiles(dir, toPeftConfig(config, adapter), adapter.tensors);
}

/** Reads the two files; the caller disposes of the tensors. @throws FormatError naming the file. */
export async function readAdapter(
  dir: string,
): Promise<{ config: CheckedLoraConfig; tensors: Map<string, Tensor>; source: string }> {
  const { json, source } = await readAdapterConfig(dir);
  const config = fromPeftConfig(json, source);
  return { config, ...(await readAdapterTensors(dir)) };
}
