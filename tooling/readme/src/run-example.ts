import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { root } from '../../workspace/src/packages.ts';
import { firstExample } from './example.ts';

/** Inside `node_modules`, so that examples find the packages that this tool depends on and git does not see them. */
const folder = fileURLToPath(new URL('../node_modules/.examples', import.meta.url));

/**
 * Runs the first example of a README in Node, against the sources of the workspace; returns what it prints. Throws if
 * there is none, if it fails or if it prints nothing, naming file and line.
 */
export async function runExample(readme: string, timeout = 120_000): Promise<string> {
  const name = relative(root, readme);
  const example = firstExample(readFileSync(readme, 'utf8'));
  if (!example) throw new Error(`${name} has no js or ts example`);
  const where = `${name}:${example.line}`;
  const script = join(folder, `${name}.mts`);
  mkdirSync(dirname(script), { recursive: true });
  // Empty lines above, so that stack traces give the README's own line numbers.
  writeFileSync(script, '\n'.repeat(example.line - 1) + example.code);
  const work = join(folder, `${name}.work`);
  mkdirSync(work, { recursive: true });
  try {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--conditions=@ashlar/source', '--import', import.meta.resolve('tsx'), script],
      { cwd: work, timeout, env: { ...process.env, NODE_OPTIONS: '' } },
    );
    if (!stdout.trim()) throw new Error(`${where}: the example prints nothing`);
    return stdout;
  } catch (error) {
    const { stderr, killed } = error as { stderr?: string; killed?: boolean };
    if (killed) throw new Error(`${where}: the example runs for more than ${timeout / 1000} s`);
    if (stderr === undefined) throw error;
    throw new Error(`${where}: the example fails:\n${stderr.replaceAll(script, name)}`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
