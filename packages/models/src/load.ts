import {
  type FloatDtype,
  FormatError,
  loadStateDict,
  openSafetensors,
  Rng,
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
  /** Told of each tensor as it is read. */
  onProgress?: (done: number, total: number, name: string) => void;
}

/**
 * Loads a language model: `config.json` and `model.safetensors` (or a sharded `model.safetensors.index.json`) from a
 * folder, or from the Hugging Face hub by its id (`HuggingFaceTB/SmolLM2-135M`). Weights become float32.
 * @throws FormatError naming the file and what is missing or does not fit.
 */
export async function loadModel(folderOrId: string, options: LoadOptions = {}): Promise<CausalLM> {
  const folder = await modelFolder(folderOrId, options);
  const { join } = await import('node:path');
  const { existsSync } = await import('node:fs');
  const configPath = join(folder, 'config.json');
  const config = await readJson(configPath);
  const { create, rename } = architecture(config, configPath);
  const weights = ['model.safetensors', 'model.safetensors.index.json'].map((name) => join(folder, name));
  const found = weights.find((path) => existsSync(path));
  if (found === undefined) {
    throw new FormatError(`${folder} has no model.safetensors and no model.safetensors.index.json.`);
  }
  const file = await openSafetensors(found);
  const model = create(config, { rng: new Rng(0) });
  const tensors = new Map<string, Tensor>();
  try {
    let done = 0;
    for (const name of file.names) {
      const own = rename(name);
      if (own !== undefined) tensors.set(own, await file.tensor(name));
      options.onProgress?.(++done, file.names.length, name);
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

/** The local folder of a model: as given, or downloaded from the hub. */
export async function modelFolder(folderOrId: string, options: LoadOptions = {}): Promise<string> {
  const { existsSync } = await import('node:fs');
  if (existsSync(folderOrId)) return folderOrId;
  if (!/^[\w.-]+(\/[\w.-]+)?$/.test(folderOrId) || /^\.\.?$/.test(folderOrId)) {
    throw new FormatError(`There is no folder '${folderOrId}', and it is no hub id (owner/name).`);
  }
  const { snapshotDownload } = await import('@huggingface/hub');
  const { revision, cacheDir, accessToken, hubUrl } = options;
  try {
    return await snapshotDownload({ repo: folderOrId, revision, cacheDir, accessToken, hubUrl });
  } catch (error) {
    throw new FormatError(
      `There is no folder '${folderOrId}', and the hub did not give a model of that id: ${(error as Error).message}`,
      { cause: error },
    );
  }
}

/**
 * Writes `config.json` and `model.safetensors` as Hugging Face transformers reads them; tied weights are written once.
 * @param options.dtype of the weights. Default `'F32'`.
 */
export async function saveModel(model: CausalLM, folder: string, options: { dtype?: FloatDtype } = {}): Promise<void> {
  const { dtype = 'F32' } = options;
  const { mkdir } = await import('node:fs/promises');
  const { join } = await import('node:path');
  await mkdir(folder, { recursive: true });
  const parameters = [...model.namedParameters()].map(([name, { stored }]): [string, Tensor] => [name, stored]);
  await saveSafetensors(join(folder, 'model.safetensors'), parameters, { dtype });
  const config = {
    architectures: [architecture(model.config).className],
    ...model.config,
    torch_dtype: { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }[dtype],
  };
  await writeFileAtomic(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
}

async function readJson(path: string): Promise<unknown> {
  const { readFile } = await import('node:fs/promises');
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new FormatError(`${path} cannot be read as JSON: ${(error as Error).message}`, { cause: error });
  }
}
