import { Conv1D, Conv2d, Embedding, Linear } from '@ashlar/nn';
import { type AnyModule, ConfigError, type Parameter } from '@ashlar/tensor';
import { DEFAULT_TARGETS, matchesTarget, noTarget } from '../match.ts';
import type { CheckedLoraConfig } from './config.ts';
import { LoraConv2d } from './conv2d.ts';
import { LoraEmbedding } from './embedding.ts';
import { LoraLayer } from './layer.ts';
import { LoraLinear } from './linear.ts';

/** Output heads, which `'all-linear'` leaves out. */
const OUTPUT_HEADS = ['lm_head', 'embed_out', 'score', 'classifier'];

/** `base` with a place for adapters, or undefined for a module that LoRA does not adapt. */
export function wrap(base: AnyModule): LoraLayer | undefined {
  if (base instanceof Linear || base instanceof Conv1D) return new LoraLinear(base);
  if (base instanceof Embedding) return new LoraEmbedding(base);
  if (base instanceof Conv2d) return new LoraConv2d(base);
  return undefined;
}

/** The modules of the model as it is without adapters, by path. */
function* baseModules(model: AnyModule): Generator<[string, AnyModule]> {
  let wrapped: string | undefined;
  for (const [path, module] of model.namedModules()) {
    if (wrapped !== undefined && path.startsWith(wrapped)) continue;
    wrapped = module instanceof LoraLayer ? `${path}.` : undefined;
    yield [path, module instanceof LoraLayer ? module.base_layer : module];
  }
}

/** Replaces `'all-linear'` and a missing `targetModules` by names. */
export function withTargets(model: AnyModule, config: CheckedLoraConfig): CheckedLoraConfig {
  if (config.targetModules === 'all-linear') {
    const linear = [...baseModules(model)].filter(
      ([path, base]) =>
        (base instanceof Linear || base instanceof Conv1D) &&
        !OUTPUT_HEADS.includes(path.slice(path.lastIndexOf('.') + 1)),
    );
    return { ...config, targetModules: linear.map(([path]) => path) };
  }
  if (config.targetModules !== undefined) return config;
  const type = (model as { config?: { model_type?: string } }).config?.model_type ?? 'unknown';
  if (!Object.hasOwn(DEFAULT_TARGETS, type)) {
    throw new ConfigError(`There are no default targetModules for a model of type '${type}'; name them.`);
  }
  return { ...config, targetModules: DEFAULT_TARGETS[type] };
}

/** The paths that `config` adapts. @throws ConfigError if there is none. */
export function targetPaths(model: AnyModule, config: CheckedLoraConfig): string[] {
  const names = [...baseModules(model)].filter(([, base]) => wrap(base) !== undefined).map(([path]) => path);
  const matched = names.filter((path) => matchesTarget(path, config));
  if (matched.length === 0) throw noTarget(config, names);
  return matched;
}

/**
 * The base parameters that `config` trains whole, under their names in a PEFT file: those of `modulesToSave` (which
 * match as ends of a path, so that `norm` means `input_layernorm` too) and biases.
 */
export function wholeParameters(
  model: AnyModule,
  config: CheckedLoraConfig,
  adapted: readonly string[],
): Map<string, Parameter> {
  const { modulesToSave = [], bias } = config;
  const names = [...baseModules(model)].map(([path]) => path);
  const paths = names.filter((path) => modulesToSave.some((entry) => path.endsWith(entry)));
  if (modulesToSave.length > 0 && paths.length === 0) throw noTarget({ targetModules: modulesToSave }, names);
  const whole = new Map<string, Parameter>();
  for (const [path, parameter] of model.namedParameters()) {
    if (/\.lora_\w+\./.test(path)) continue;
    const name = path.replace('.base_layer.', '.');
    const owner = name.slice(0, name.lastIndexOf('.'));
    const isAdapted = adapted.includes(owner);
    const trainsAsBias = name.endsWith('.bias') && (bias === 'all' || (bias === 'lora_only' && isAdapted));
    if (!trainsAsBias && !paths.some((saved) => name.startsWith(`${saved}.`))) continue;
    whole.set(isAdapted ? `${owner}.base_layer${name.slice(owner.length)}` : name, parameter);
  }
  return whole;
}
