import { ConfigError, closestNames } from '@ashlar/tensor';
import { compilePattern, matchesWhole } from './pattern.ts';

/** Which modules a method adapts: the fields of Hugging Face `peft` that all methods share. */
export interface TargetOptions {
  /**
   * A list: names that equal an entry or end with `.` + entry. A string: a regular expression that must match the whole
   * name, or `'all-linear'`: every linear layer except the output head, or `'attention'`: those in attention layers, self
   * and cross, as plug-in adapters of diffusion models have them. Default: by architecture (`DEFAULT_TARGETS`).
   */
  targetModules?: string | readonly string[];
  /** Names left out, in the same two forms; wins over `targetModules`. */
  excludeModules?: string | readonly string[];
  /** Modules trained whole and saved with the adapter; they are never adapted. */
  modulesToSave?: readonly string[];
  /** Only these layer indices; only with a list of targets. */
  layersToTransform?: number | readonly number[];
  /** The word before the layer index in names (`'layers'`, `'h'`); default: the first word followed by a number. */
  layersPattern?: string | readonly string[];
}

/** The targets of `peft` where a config names none, by `model_type`. */
export const DEFAULT_TARGETS: Readonly<Record<string, readonly string[]>> = {
  llama: ['q_proj', 'v_proj'],
  mistral: ['q_proj', 'v_proj'],
  gemma: ['q_proj', 'v_proj'],
  qwen2: ['q_proj', 'v_proj'],
  gpt2: ['c_attn'],
  bert: ['query', 'value'],
  roberta: ['query', 'value'],
  phi: ['q_proj', 'v_proj', 'fc1', 'fc2'],
  t5: ['q', 'v'],
  opt: ['q_proj', 'v_proj'],
};

const asList = <T>(value: T | readonly T[]): readonly T[] => (Array.isArray(value) ? value : [value as T]);

const endsWithName = (name: string, entry: string): boolean => name === entry || name.endsWith(`.${entry}`);

/** Whether `options` adapt the module called `name` (`'all-linear'` and the defaults must be resolved before). */
export function matchesTarget(name: string, options: TargetOptions): boolean {
  const { targetModules = [], excludeModules, modulesToSave = [], layersToTransform, layersPattern } = options;
  if (modulesToSave.some((entry) => `.${name}.`.includes(`.${entry}.`))) return false;
  if (typeof excludeModules === 'string') {
    if (matchesWhole(name, excludeModules, 'excludeModules')) return false;
  } else if (excludeModules?.some((entry) => endsWithName(name, entry))) {
    return false;
  }
  if (typeof targetModules === 'string') return matchesWhole(name, targetModules, 'targetModules');
  if (!targetModules.some((entry) => endsWithName(name, entry))) return false;
  if (targetModules.includes(name)) return true;
  if (layersToTransform === undefined || asList(layersToTransform).length === 0) return true;
  const index = layerIndex(name, layersPattern);
  return index !== undefined && asList(layersToTransform).includes(index);
}

/** The first number after one of the words (patterns) in `layersPattern`, or after any word. */
function layerIndex(name: string, layersPattern: string | readonly string[] = []): number | undefined {
  const starts =
    layersPattern.length === 0
      ? [compilePattern('.*?\\.[^.]*\\.(?P<index>\\d+)\\.', 'layersPattern')]
      : asList(layersPattern).map((word) =>
          compilePattern(word, 'layersPattern', (pattern) => `(?:.*?\\.)?(?:${pattern})\\.(?P<index>\\d+)\\.`),
        );
  for (const start of starts) {
    const found = start.matcher(name);
    if (found.lookingAt()) return Number(found.group('index'));
  }
  return undefined;
}

/** The first key of a rank or alpha pattern that matches the end of `name`, or `name` itself if none does. */
export function patternKey(keys: Iterable<string>, name: string): string {
  for (const key of keys) {
    const end = compilePattern(key, 'rankPattern or alphaPattern', (pattern) => `(?:.*\\.)?(?:${pattern})`);
    if (end.matcher(name).matches()) return key;
  }
  return name;
}

/** @throws ConfigError that says what was looked for and which names come close. */
export function noTarget(options: TargetOptions, names: readonly string[]): ConfigError {
  const wanted = asList(options.targetModules ?? []);
  const close = wanted.map((entry) => `'${entry}' (closest: ${closestNames(entry, names).join(', ')})`);
  const layers =
    options.layersToTransform === undefined ? '' : ` within layers ${asList(options.layersToTransform).join(', ')}`;
  return new ConfigError(`targetModules matches no module that can be adapted${layers}: ${close.join('; ')}.`);
}
