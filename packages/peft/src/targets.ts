import { Conv1D, Linear } from '@ashlar/nn';
import { type AnyModule, ConfigError, Module, type Parameter } from '@ashlar/tensor';
import { AdapterLayer, guestOf, LayerGuest } from './adapter-layer.ts';
import { DEFAULT_TARGETS, matchesTarget, noTarget, type TargetOptions } from './match.ts';

/** Output heads, which `'all-linear'` leaves out. */
const OUTPUT_HEADS = ['lm_head', 'embed_out', 'score', 'classifier'];

/** The modules of the model as it is without adapters, by path, and what stands there now. */
function* baseModules(model: AnyModule): Generator<{ path: string; base: AnyModule; module: AnyModule }> {
  let wrapped: string | undefined;
  for (const [path, module] of model.namedModules()) {
    if (wrapped !== undefined && path.startsWith(wrapped)) continue;
    wrapped = module instanceof AdapterLayer ? `${path}.` : undefined;
    yield { path, base: module instanceof AdapterLayer ? module.base_layer : module, module };
  }
}

/** What an attention layer is known by: a child of one of these names. */
const QUERIES = ['q_proj', 'c_attn', 'to_q', 'query', 'in_proj'];

/** The linear layers in attention layers, self and cross: projections to queries, keys and values, and back. */
function attentionProjections(model: AnyModule): string[] {
  const attention = [...model.namedModules()].flatMap(([path, module]) => {
    const isAttention = [...module.namedChildren()].some(([name]) => QUERIES.includes(name));
    return isAttention ? [path === '' ? '' : `${path}.`] : [];
  });
  const linear = [...baseModules(model)].filter(({ base }) => base instanceof Linear || base instanceof Conv1D);
  const found = linear.map(({ path }) => path).filter((path) => attention.some((prefix) => path.startsWith(prefix)));
  if (found.length > 0) return found;
  throw new ConfigError(
    `The model has no attention layer (with ${QUERIES.join(', ')}); name the modules by 'targetModules'.`,
  );
}

/** Replaces `'all-linear'`, `'attention'` and a missing `targetModules` by names. */
export function withTargets<Options extends TargetOptions>(model: AnyModule, options: Options): Options {
  if (options.targetModules === 'attention') return { ...options, targetModules: attentionProjections(model) };
  if (options.targetModules === 'all-linear') {
    const linear = [...baseModules(model)].filter(
      ({ path, base }) =>
        (base instanceof Linear || base instanceof Conv1D) &&
        !OUTPUT_HEADS.includes(path.slice(path.lastIndexOf('.') + 1)),
    );
    return { ...options, targetModules: linear.map(({ path }) => path) };
  }
  if (options.targetModules !== undefined) return options;
  const type = (model as { config?: { model_type?: string } }).config?.model_type ?? 'unknown';
  if (!Object.hasOwn(DEFAULT_TARGETS, type)) {
    throw new ConfigError(`There are no default targetModules for a model of type '${type}'; name them.`);
  }
  return { ...options, targetModules: DEFAULT_TARGETS[type] };
}

/**
 * The paths that `options` adapt, among the modules that are `adaptable`.
 * @param shared whether a layer with an adapter takes another of the same method.
 * @throws ConfigError if there is none, or if an adapter of another method is on one of them.
 */
export function targetPaths(
  model: AnyModule,
  options: TargetOptions,
  adaptable: (base: AnyModule) => boolean,
  shared: (layer: AdapterLayer) => boolean = () => false,
): string[] {
  const candidates = [...baseModules(model)].filter(({ base }) => adaptable(base));
  const matched = candidates.filter(({ path }) => matchesTarget(path, options));
  const names = candidates.map(({ path }) => path);
  if (matched.length === 0) throw noTarget(options, names);
  for (const { path, base, module } of matched) {
    const taken = module instanceof AdapterLayer && !shared(module) ? module.constructor.name : guestOf(base);
    if (taken !== undefined) {
      throw new ConfigError(
        `'${path}' carries another adapter (${taken}), with which this one cannot share a layer: unload that first, or ` +
          "leave the layer out by 'excludeModules'.",
      );
    }
  }
  return matched.map(({ path }) => path);
}

/** The parameters that adapters brought into the model. */
export function broughtParameters(model: AnyModule): Set<Parameter> {
  const brought = new Set<Parameter>();
  for (const [, module] of model.namedModules()) {
    if (!(module instanceof AdapterLayer || module instanceof LayerGuest)) continue;
    const base = new Set(module instanceof AdapterLayer ? module.base_layer.parameters() : []);
    for (const parameter of module.parameters()) if (!base.has(parameter)) brought.add(parameter);
  }
  for (const { parametrizations } of model.parameters()) {
    for (const way of parametrizations) {
      if (way instanceof Module) for (const parameter of way.parameters()) brought.add(parameter);
    }
  }
  return brought;
}

/**
 * The base parameters that `options` train whole, under their names in a PEFT file: those of `modulesToSave` (which
 * match as ends of a path, so that `norm` means `input_layernorm` too) and biases.
 */
export function wholeParameters(
  model: AnyModule,
  options: TargetOptions & { bias?: 'none' | 'all' | 'lora_only' },
  adapted: readonly string[],
): Map<string, Parameter> {
  const { modulesToSave = [], bias } = options;
  const names = [...baseModules(model)].map(({ path }) => path);
  const paths = names.filter((path) => modulesToSave.some((entry) => path.endsWith(entry)));
  if (modulesToSave.length > 0 && paths.length === 0) throw noTarget({ targetModules: modulesToSave }, names);
  const brought = broughtParameters(model);
  const whole = new Map<string, Parameter>();
  for (const [path, parameter] of model.namedParameters()) {
    if (brought.has(parameter)) continue;
    const name = path.replace('.base_layer.', '.');
    const owner = name.slice(0, name.lastIndexOf('.'));
    const isAdapted = adapted.includes(owner);
    const trainsAsBias = name.endsWith('.bias') && (bias === 'all' || (bias === 'lora_only' && isAdapted));
    if (!trainsAsBias && !paths.some((saved) => name.startsWith(`${saved}.`))) continue;
    whole.set(isAdapted ? `${owner}.base_layer${name.slice(owner.length)}` : name, parameter);
  }
  return whole;
}
