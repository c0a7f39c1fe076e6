/** Renews the list of kernels in README.md: `node bench/readme.mjs` after a build. A test compares the two. */
import { readFileSync, writeFileSync } from 'node:fs';
import { javascriptKernels, nativeKernels } from '@ashlar/backend-ort';

const MARK = '<!-- kernels: renewed by `node bench/readme.mjs` -->\n';
const file = new URL('../README.md', import.meta.url);
const [head] = readFileSync(file, 'utf8').split(MARK);
const list = (title, names) => `\n**${title}** (${names.length}): ${names.map((name) => `\`${name}\``).join(', ')}.\n`;
const lists = list('In native code', nativeKernels) + list('In JavaScript, rewritten', javascriptKernels);
writeFileSync(file, head + MARK + lists);
