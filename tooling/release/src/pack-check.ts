import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { publishablePackages } from '../../workspace/src/packages.ts';
import { findChromium, runInBrowser } from './browser.ts';
import { type Packed, pack, tarballProblems } from './pack.ts';
import { installProject, runExample } from './project.ts';

/** Their examples are also bundled with Vite and run in Chromium. */
const inBrowser = ['@ashlar/tensor', '@ashlar/peft'];

const program = new Command('pnpm pack-check')
  .description(
    'Packs every publishable package, installs each from its tarball into an empty npm project and runs the first ' +
      `example of its README there, in Node; for ${inBrowser.join(' and ')} also bundled with Vite, in headless ` +
      'Chromium (CHROMIUM_PATH, or /usr/bin/chromium).',
  )
  .argument('[name...]', 'packages to check, such as @ashlar/peft (default: all)')
  .option('--keep', 'keep the folder with tarballs and projects, and print where it is')
  .parse();

const folder = mkdtempSync(join(tmpdir(), 'ashlar-pack-check-'));
const chromium = findChromium();
const ci = process.env.CI === 'true';
let failures = 0;

try {
  const all: Packed[] = [];
  for (const workspacePackage of publishablePackages()) all.push(await pack(workspacePackage, folder));
  const names = all.map(({ manifest }) => manifest.name);
  const unknown = program.args.filter((name) => !names.includes(name));
  if (unknown.length > 0) program.error(`error: no package ${unknown.join(', ')}; there are: ${names.join(', ')}`);
  for (const packed of all) {
    const { name } = packed.manifest;
    if (program.args.length > 0 && !program.args.includes(name)) continue;
    const start = performance.now();
    try {
      const note = await check(packed, all);
      console.log(`ok   ${name}: ${note} (${((performance.now() - start) / 1000).toFixed(0)} s)`);
    } catch (error) {
      failures++;
      console.log(`FAIL ${name}: ${readable((error as Error).message)}`);
    }
  }
} finally {
  if (program.opts<{ keep?: boolean }>().keep) console.log(`kept: ${folder}`);
  else rmSync(folder, { recursive: true });
}
process.exitCode = failures > 0 ? 1 : 0;

/** Returns what was checked; throws what is wrong. */
async function check(packed: Packed, all: readonly Packed[]): Promise<string> {
  const problems = tarballProblems(packed.contents);
  if (problems.length > 0) throw new Error(problems.join('; '));
  const project = `${packed.contents}-project`;
  await installProject(project, packed, all);
  await runExample(project, packed);
  if (!inBrowser.includes(packed.manifest.name)) return 'installs and runs in Node';
  if (!chromium) {
    if (ci) throw new Error('there is no Chromium: install it or set CHROMIUM_PATH');
    return 'installs and runs in Node; not tried in a browser, since there is no Chromium (set CHROMIUM_PATH)';
  }
  await runInBrowser(project, chromium);
  return 'installs and runs in Node and, bundled with Vite, in Chromium';
}

/** Indented, and without the rest of the minified lines that Node quotes. */
function readable(message: string): string {
  return message
    .split('\n')
    .map((line) => (line.length > 300 ? `${line.slice(0, 300)}…` : line))
    .join('\n     ');
}
