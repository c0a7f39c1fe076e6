import { ConfigError, quote } from '@ashlar/tensor';
import type { TargetOptions } from './match.ts';

/** @throws ConfigError naming the option, what it was and what it may be. */
export function refuse(option: string, was: unknown, may: string): never {
  throw new ConfigError(`${option} is ${quote(was)}; it must be ${may}.`);
}

export const isRank = (value: unknown): boolean => Number.isInteger(value) && (value as number) > 0;

const isNames = (value: unknown): boolean =>
  typeof value === 'string' || (Array.isArray(value) && value.every((entry) => typeof entry === 'string'));

/** @throws ConfigError unless the options that say which modules are adapted have their types. */
export function checkTargets(options: TargetOptions): void {
  for (const option of ['targetModules', 'excludeModules', 'layersPattern'] as const) {
    const value = options[option];
    if (value !== undefined && !isNames(value)) refuse(option, value, 'a string or a list of them');
  }
  const { modulesToSave, layersToTransform: layers } = options;
  if (modulesToSave !== undefined && !(Array.isArray(modulesToSave) && isNames(modulesToSave))) {
    refuse('modulesToSave', modulesToSave, 'a list of names');
  }
  if (layers === undefined) return;
  const list = Array.isArray(layers) ? layers : [layers];
  if (!list.every((layer) => Number.isInteger(layer) && layer >= 0)) {
    refuse('layersToTransform', layers, 'a layer index or a list of them');
  }
  if (typeof options.targetModules === 'string') {
    throw new ConfigError(
      'layersToTransform needs targetModules to be a list; put the layers into the pattern instead.',
    );
  }
}

/** Each is tried on each module: a config from a stranger must not keep us busy for hours. */
const MOST_PATTERNS = 5000;

/** @throws ConfigError unless every value of a name pattern `is` what it may be. */
export function checkPattern(
  option: string,
  pattern: Readonly<Record<string, number>>,
  is: (value: unknown) => boolean,
  may: string,
): void {
  if (typeof pattern !== 'object' || pattern === null || Array.isArray(pattern)) {
    refuse(option, pattern, 'an object from name patterns to numbers');
  }
  const entries = Object.entries(pattern);
  if (entries.length > MOST_PATTERNS) {
    throw new ConfigError(`${option} has ${entries.length} entries; it may have ${MOST_PATTERNS}.`);
  }
  for (const [key, value] of entries) if (!is(value)) refuse(`${option}['${key}']`, value, may);
}
