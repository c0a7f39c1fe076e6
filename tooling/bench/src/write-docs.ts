import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../workspace/src/packages.ts';

const file = join(root, 'docs', 'benchmarks.md');

/** Replaces what stands between the marks of benchmark `name` in docs/benchmarks.md. */
export function writeDocs(name: string, where: string, tables: readonly string[]): void {
  const text = readFileSync(file, 'utf8');
  const [begin, end] = [`<!-- begin: pnpm bench ${name} --write-docs -->`, `<!-- end: ${name} -->`];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`docs/benchmarks.md has no '${begin}' before '${end}'.`);
  const section = `${begin}\n\n${where}\n\n${tables.join('\n\n')}\n\n`;
  writeFileSync(file, text.slice(0, from) + section + text.slice(to));
}
