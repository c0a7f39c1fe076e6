import { type AnyModule, ConfigError, closestNames, Parameter, quote } from '@ashlar/tensor';
import { matchesTarget } from '../match.ts';
import { broughtParameters } from '../targets.ts';
import type { CheckedSaraConfig } from './config.ts';

/** The paths of all that a parameter may be in, outermost first, and its name. */
export function pathsOf(name: string): string[] {
  const words = name.split('.');
  return words.map((_, i) => words.slice(0, i + 1).join('.'));
}

const matches = (names: readonly string[], targetModules: string | readonly string[]): boolean =>
  names.flatMap(pathsOf).some((path) => matchesTarget(path, { targetModules }));

/**
 * The parameters that `include` and `exclude` leave, by their first name in the model without adapters. A tied one is there
 * once: it has one mask, whatever it is called.
 * @throws ConfigError where there are none, or where one is not a plain float32 tensor.
 */
export function baseParameters(
  model: AnyModule,
  { include, exclude }: Pick<CheckedSaraConfig, 'include' | 'exclude'>,
): Map<string, Parameter> {
  const brought = broughtParameters(model);
  const names = new Map<Parameter, string[]>();
  for (const [name, slot] of model.namedState()) {
    if (!(slot instanceof Parameter) || brought.has(slot)) continue;
    names.set(slot, [...(names.get(slot) ?? []), name.replace('.base_layer.', '.')]);
  }
  const chosen = [...names].filter(
    ([, own]) => (include === undefined || matches(own, include)) && !(exclude !== undefined && matches(own, exclude)),
  );
  if (chosen.length === 0) {
    const all = [...names.values()].map(([name]) => name);
    const close = [include ?? []].flat().flatMap((entry) => closestNames(entry, all));
    throw new ConfigError(
      `include ${quote(include)} and exclude ${quote(exclude)} leave no parameter; names that come close: ${close.join(', ')}.`,
    );
  }
  for (const [{ dtype, parametrizations }, [name]] of chosen) {
    if (dtype === 'float32' && parametrizations.length === 0) continue;
    const what =
      dtype === 'float32' ? `has a parametrization (${parametrizations[0].constructor.name})` : `is ${dtype}`;
    throw new ConfigError(
      `'${name}' ${what}; SaRA trains entries of plain float32 weights: leave it out by 'exclude'.`,
    );
  }
  return new Map(chosen.map(([parameter, [name]]) => [name, parameter]));
}
