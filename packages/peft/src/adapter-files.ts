import {
  FormatError,
  loadSafetensors,
  makeFolder,
  type NamedTensors,
  nodeModule,
  type Parameter,
  quote,
  saveSafetensors,
  type Tensor,
  util,
  writeFileAtomic,
} from '@ashlar/tensor';
import type { TargetOptions } from './match.ts';

export const CONFIG_FILE = 'adapter_config.json';
const TENSORS_FILE = 'adapter_model.safetensors';

/** What `peft` puts before the path of a module in a file. */
export const PREFIX = 'base_model.model.';

/** `TargetOptions` under their names in `adapter_config.json`. */
export const TARGET_FIELDS: Readonly<Record<string, keyof TargetOptions>> = {
  target_modules: 'targetModules',
  exclude_modules: 'excludeModules',
  modules_to_save: 'modulesToSave',
  layers_to_transform: 'layersToTransform',
  layers_pattern: 'layersPattern',
};

/** Fields that every adapter of ours has and that say nothing of what it computes. */
const COMMON_FIELDS = ['peft_type', 'task_type', 'base_model_name_or_path', 'inference_mode'];

/** The object of an `adapter_config.json` for a method that `peft` does not have: `fields` name its options. */
export function ownConfig<Options extends object>(
  type: string,
  options: Options,
  fields: Readonly<Record<string, keyof Options>>,
  baseModel?: string,
): Record<string, unknown> {
  const json: Record<string, unknown> = { peft_type: type, task_type: null };
  Object.assign(json, { base_model_name_or_path: baseModel ?? null, inference_mode: true });
  for (const [name, option] of Object.entries(fields)) json[name] = options[option] ?? null;
  return json;
}

/** The options in such an object. @throws FormatError for another kind of adapter, or fields that are unknown. */
export function ownOptions<Options extends object>(
  type: string,
  json: Readonly<Record<string, unknown>>,
  fields: Readonly<Record<string, keyof Options>>,
  source: string,
): Options {
  if (json.peft_type !== type) {
    throw new FormatError(`${source}: peft_type is ${quote(json.peft_type)}, not "${type}".`);
  }
  const unknown = Object.keys(json).filter((name) => !Object.hasOwn(fields, name) && !COMMON_FIELDS.includes(name));
  if (unknown.length > 0) throw new FormatError(`${source}: unknown fields ${unknown.join(', ')}.`);
  const known = Object.entries(fields).filter(([name]) => Object.hasOwn(json, name) && json[name] !== null);
  return Object.fromEntries(known.map(([name, option]) => [option, json[name]])) as Options;
}

/** Runs `check` on what stands in a file: its errors name the file. */
export function namingSource<T>(source: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof Error) error.message = `${source}: ${error.message}`;
    throw error;
  }
}

/** Writes the two files of an adapter; the tensors first, so that a config never stands without them. */
export async function writeAdapterFiles(
  dir: string,
  json: Readonly<Record<string, unknown>>,
  tensors: NamedTensors,
): Promise<void> {
  const { join } = nodeModule('node:path', 'An adapter folder');
  await makeFolder(dir);
  await saveSafetensors(join(dir, TENSORS_FILE), tensors);
  const text = `${JSON.stringify(json, null, 2)}\n`;
  await writeFileAtomic(join(dir, CONFIG_FILE), [new TextEncoder().encode(text)]);
}

/** The object in `adapter_config.json`. @throws FormatError naming the file. */
export async function readAdapterConfig(dir: string): Promise<{ json: Record<string, unknown>; source: string }> {
  const { readFile } = nodeModule('node:fs/promises', 'An adapter folder');
  const { join } = nodeModule('node:path', 'An adapter folder');
  const source = join(dir, CONFIG_FILE);
  let json: unknown;
  try {
    json = JSON.parse(await readFile(source, 'utf8'));
  } catch (error) {
    throw new FormatError(
      `${source} cannot be read as JSON (${(error as Error).message}). An adapter folder holds ${CONFIG_FILE} and ${TENSORS_FILE}.`,
    );
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new FormatError(`${source} holds no object.`);
  }
  return { json: json as Record<string, unknown>, source };
}

/** The tensors in `adapter_model.safetensors`; the caller disposes of them. @throws FormatError naming the file. */
export async function readAdapterTensors(dir: string): Promise<{ tensors: Map<string, Tensor>; source: string }> {
  const { join } = nodeModule('node:path', 'An adapter folder');
  const source = join(dir, TENSORS_FILE);
  return { tensors: await loadSafetensors(source), source };
}

/**
 * Copies `tensors` into the parameters of the same names.
 * @param options.ignore names that are no parameters and were looked at elsewhere.
 * @param options.problems found elsewhere, one a line.
 * @throws FormatError listing all that does not fit; the parameters are then as before.
 */
export function assignTensors(
  parameters: ReadonlyMap<string, Parameter>,
  tensors: ReadonlyMap<string, Tensor>,
  options: { source: string; ignore?: ReadonlySet<string>; problems?: readonly string[] },
): void {
  const { source, ignore, problems = [] } = options;
  const missing = [...parameters.keys()].filter((key) => !tensors.has(key));
  const unexpected = [...tensors.keys()].filter((key) => !parameters.has(key) && !ignore?.has(key));
  const misshapen = [...parameters].flatMap(([key, { shape }]) => {
    const given = tensors.get(key)?.shape;
    return given === undefined || util.arraysEqual(given, shape) ? [] : [`${key} is [${given}], not [${shape}]`];
  });
  const all = [
    missing.length > 0 ? `missing: ${missing.join(', ')}` : '',
    unexpected.length > 0 ? `unexpected: ${unexpected.join(', ')}` : '',
    misshapen.length > 0 ? `wrong shape: ${misshapen.join('; ')}` : '',
    ...problems,
  ].filter((problem) => problem !== '');
  if (all.length > 0) {
    throw new FormatError(`${source} does not fit this model and its config.\n  ${all.join('\n  ')}`);
  }
  for (const [key, parameter] of parameters) parameter.assign((tensors.get(key) as Tensor).clone());
}
