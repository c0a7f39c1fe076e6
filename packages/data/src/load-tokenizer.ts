import { FormatError, nodeModule } from '@ashlar/tensor';
import { readBytes, statPath, toPath } from './open-path.ts';
import { Tokenizer } from './tokenizer.ts';
import type { TokenizerConfig, TokenizerJson } from './tokenizer-json.ts';

/**
 * The tokenizer of a model folder (`tokenizer.json`, with `tokenizer_config.json` where there is one), of the path of a
 * `tokenizer.json`, or of such a file's bytes or parsed content.
 * @param config what `tokenizer_config.json` holds, instead of the file.
 * @throws FormatError naming the file and what is wrong with it; ConfigError for a path outside Node.
 */
export async function loadTokenizer(
  source: string | URL | Uint8Array | TokenizerJson,
  config?: TokenizerConfig,
): Promise<Tokenizer> {
  if (source instanceof Uint8Array) return new Tokenizer(parse(source, 'tokenizer.json'), config);
  if (typeof source !== 'string' && !(source instanceof URL)) return new Tokenizer(source, config);

  const path = toPath(source);
  const { dirname, join } = nodeModule('node:path', path);
  const file = (await statPath(path)).isDirectory() ? join(path, 'tokenizer.json') : path;
  await statPath(file);
  const json = parse<TokenizerJson>(await readBytes(file), file);
  return new Tokenizer(json, config ?? (await readConfig(join(dirname(file), 'tokenizer_config.json'))), file);
}

async function readConfig(path: string): Promise<TokenizerConfig | undefined> {
  const exists = await nodeModule('node:fs/promises', path)
    .access(path)
    .then(
      () => true,
      () => false,
    );
  return exists ? parse(await readBytes(path), path) : undefined;
}

function parse<T>(bytes: Uint8Array, name: string): T {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FormatError(`${name}: it is not JSON (${reason}). Download or save it again.`, { cause: error });
  }
}
