import {
  ConfigError,
  type FloatDtype,
  FormatError,
  loadStateDict,
  makeFolder,
  nodeModule,
  openSafetensors,
  Parameter,
  type PositionEncoding,
  Rng,
  type SafetensorsFile,
  saveSafetensors,
  type Tensor,
  writeFileAtomic,
} from '@ashlar/tensor';
import type { CausalLM } from './causal-lm.ts';
import { architecture } from './registry.ts';

export interface LoadOptions {
  /** Branch, tag or commit of a hub model. Default `'main'`. */
  revision?: string;
  /** Where hub models are kept. Default that of `@huggingface/hub` (`~/.cache/huggingface/hub`). */
  cacheDir?: string;
  /** Token for private hub models. */
  accessToken?: string;
  /** Another hub than huggingface.co. */
  hubUrl?: string;
  /** The position encoding that the model was saved with, if not its architecture's own: made alike, of the same class. */
  encoding?: PositionEncoding;
  /** Told of each tensor as it is read. */
  onProgress?: (done: number, total: number, name: string) => void;
}

/**
 * Loads a language model: `config.json` and `model.safetensors` (or a sharded `model.safetensors.index.json`) from a
 * folder, or from the Hugging Face hub by its id (`HuggingFaceTB/SmolLM2-135M`). Weights become float32.
 * @throws FormatError naming the file and what is missing or does not fit; ConfigError if the model was saved with an
 * encoding of another class than `options.encoding`.
 */
export async function loadModel(folderOrId: string, options: LoadOptions = {}): Promise<CausalLM> {
  const folder = await modelFolder(folderOrId, options);
  const { join } = nodeModule('node:path', 'A model folder');
  const { existsSync } = nodeModule('node:fs', 'A model folder');
  const configPath = join(folder, 'config.json');
  const config = await readJson(configPath);
  const { create, rename } = architecture(config, configPath);
  const weights = ['model.safetensors', 'model.safetensors.index.json'].map((name) => join(folder, name));
  const found = weights.find((path) => existsSync(path));
  if (found === undefined) {
    throw new FormatError(`${folder} has no model.safetensors and no model.safetensors.index.json.`);
  }
  const model = create(config, { rng: new Rng(0), encoding: options.encoding, source: configPath });
  const file = await openSafetensors(found);
  const tensors = new Map<string, Tensor>();
  try {
    const stored = storedNames(file, rename);
    dropTied(model, stored);
    let done = 0;
    for (const [own, name] of stored) {
      tensors.set(own, await file.tensor(name));
      options.onProgress?.(++done, stored.size, name);
    }
    loadStateDict(model, tensors, { source: found });
    return model.eval() as CausalLM;
  } catch (error) {
    model.dispose();
    throw error;
  } finally {
    for (const tensor of tensors.values()) tensor.dispose();
    await file.close();
  }
}

/** The model's names for the tensors of a file, with the file's own. */
function storedNames(file: SafetensorsFile, rename: (name: string) => string | undefined): Map<string, string> {
  const stored = new Map<string, string>();
  for (const name of file.names) {
    const own = rename(name);
    if (own === undefined) continue;
    if (stored.has(own))
      throw new FormatError(`${file.source} holds ${own} twice: as ${stored.get(own)} and as ${name}.`);
    stored.set(own, name);
  }
  return stored;
}

/** Where a file has a tied weight under several names, the first counts: a head is tied to its embedding. */
function dropTied(model: CausalLM, stored: Map<string, string>): void {
  const kept = new Set<unknown>();
  for (const [name, slot] of model.namedState()) {
    if (kept.has(slot)) stored.delete(name);
    else if (stored.has(name)) kept.add(slot);
  }
}

/** The local folder of a model: as given, or downloaded from the hub. */
export async function modelFolder(folderOrId: string, options: LoadOptions = {}): Promise<string> {
  const { existsSync } = nodeModule('node:fs', 'A model folder');
  if (existsSync(folderOrId)) return folderOrId;
  if (!/^\w[\w.-]*(\/\w[\w.-]*)?$/.test(folderOrId)) {
    throw new FormatError(`There is no folder '${folderOrId}', and it is no hub id (owner/name).`);
  }
  try {
    return await download(folderOrId, options);
  } catch (error) {
    const { hubUrl = 'https://huggingface.co' } = options;
    throw new FormatError(
      `There is no folder '${folderOrId}', and ${hubUrl} did not give a model of that id: ${(error as Error).message}`,
      { cause: error },
    );
  }
}

/** Weights, configs and tokenizers; not the same weights in other formats, which many models have beside them. */
const NEEDED = /^(model[\w.-]*\.safetensors|[\w.-]+\.(json|txt|model))$/;

async function download(name: string, options: LoadOptions): Promise<string> {
  const { downloadFileToCacheDir, listFiles, modelInfo } = await import('@huggingface/hub');
  const { dirname } = nodeModule('node:path', 'A model folder');
  const { revision = 'main', cacheDir, accessToken, hubUrl } = options;
  const hub = { accessToken, hubUrl };
  const { sha } = await modelInfo({ ...hub, name, revision, additionalFields: ['sha'] });
  const snapshot = { ...hub, repo: name, revision: sha };
  let config: string | undefined;
  for await (const { type, path } of listFiles(snapshot)) {
    if (type !== 'file' || !NEEDED.test(path)) continue;
    const local = await downloadFileToCacheDir({ ...snapshot, path, cacheDir });
    if (path === 'config.json') config = local;
  }
  if (config === undefined) throw new FormatError('it has no config.json.');
  return dirname(config);
}

/**
 * Writes `config.json` and `model.safetensors` as Hugging Face transformers reads them; tied weights are written once. Of
 * an encoding that the model was given go its parameters and buffers, and the name of its class as `position_encoding`.
 * @param options.dtype of the weights. Default `'F32'`.
 * @throws ConfigError listing parameters that the architecture does not have: those of adapters.
 */
export async function saveModel(model: CausalLM, folder: string, options: { dtype?: FloatDtype } = {}): Promise<void> {
  const { dtype = 'F32' } = options;
  const { join } = nodeModule('node:path', 'A model folder');
  await makeFolder(folder);
  const { className, create } = architecture(model.config);
  const { position_encoding: _, ...own } = model.config;
  const plain = new Set([...create(own, { rng: new Rng(0) }).namedState()].map(([name]) => name));
  const slots = [...model.namedParameters(), ...[...model.namedBuffers()].filter(([, { persistent }]) => persistent)];
  const odd = slots.filter(([name, slot]) => {
    const parametrized = slot instanceof Parameter && slot.parametrizations.length > 0;
    return parametrized || !(plain.has(name) || /^\w+\.encoding\./.test(name));
  });
  if (odd.length > 0) {
    throw new ConfigError(
      `A ${className} has no ${odd.map(([name]) => name).join(', ')}; merge adapters and parametrizations, then save.`,
    );
  }
  const stored = slots.map(([name, slot]): [string, Tensor] => [name, slot.stored]);
  await saveSafetensors(join(folder, 'model.safetensors'), stored, { dtype });
  const config = {
    ...model.config,
    architectures: [className],
    torch_dtype: { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }[dtype],
  };
  await writeFileAtomic(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
}

async function readJson(path: string): Promise<unknown> {
  const { readFile } = nodeModule('node:fs/promises', 'A model folder');
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new FormatError(`${path} cannot be read as JSON: ${(error as Error).message}`, { cause: error });
  }
}
