import {
  FormatError,
  loadSafetensors,
  makeFolder,
  nodeModule,
  type Parameter,
  saveSafetensors,
  type Tensor,
  util,
  writeFileAtomic,
} from '@ashlar/tensor';

export const CONFIG_FILE = 'adapter_config.json';
const TENSORS_FILE = 'adapter_model.safetensors';

/** What `peft` puts before the path of a module in a file. */
export const PREFIX = 'base_model.model.';

/** Writes the two files of an adapter; the tensors first, so that a config never stands without them. */
export async function writeAdapterFiles(
  dir: string,
  json: Readonly<Record<string, unknown>>,
  tensors: ReadonlyMap<string, Tensor>,
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
