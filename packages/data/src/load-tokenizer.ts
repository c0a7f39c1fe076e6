import { FormatError } from '@ashlar/tensor';
import { nodeModule } from './node-module.ts';
import { readBytes, statPath, toPath } from './open-path.ts';
import { Tokenizer } from './tokenizer.ts';
import { checkTokenizerConfig, checkTokenizerJson } from './tokenizer-json.ts';

/**
 * The tokenizer in a folder: `tokenizer.json` and, where it is there, `tokenizer_config.json`. Node only; elsewhere
 * fetch both and give them to `new Tokenizer`.
 * @throws FormatError naming the file that is missing or cannot be read, and what is wrong with it.
 */
export async function loadTokenizer(folder: string | URL): Promise<Tokenizer> {
  const path = toPath(folder);
  const { join } = nodeModule('node:path', path);
  const file = join(path, 'tokenizer.json');
  await statPath(file);
  const json = checkTokenizerJson(parse(await readBytes(file), file), file);

  const configFile = join(path, 'tokenizer_config.json');
  const names = await nodeModule('node:fs/promises', path).readdir(path);
  const config = names.includes('tokenizer_config.json')
    ? checkTokenizerConfig(parse(await readBytes(configFile), configFile), configFile)
    : undefined;
  try {
    return new Tokenizer(json, config);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`${path}: ${error.message}`, { cause: error });
  }
}

function parse(bytes: Uint8Array, path: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FormatError(`${path}: it is not JSON (${reason}). Download or save it again.`, { cause: error });
  }
}
