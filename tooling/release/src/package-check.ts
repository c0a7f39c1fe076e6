import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { command } from '../../workspace/src/command.ts';
import { publishablePackages, root } from '../../workspace/src/packages.ts';
import { type Packed, pack, tarballProblems } from './pack.ts';

new Command('pnpm package-check')
  .description('Packs every publishable package and checks the tarballs: contents, publint, are-the-types-wrong.')
  .parse();

const folder = mkdtempSync(join(tmpdir(), 'ashlar-package-check-'));
const attw = join(root, 'tooling/release/node_modules/.bin/attw');
let failures = 0;
try {
  for (const workspacePackage of publishablePackages()) {
    const packed = await pack(workspacePackage, folder);
    const problems = [
      ...tarballProblems(packed.contents),
      ...(await publintProblems(packed)),
      ...(await typeProblems(packed)),
    ];
    failures += problems.length > 0 ? 1 : 0;
    console.log(`${problems.length > 0 ? 'FAIL' : 'ok  '} ${packed.manifest.name}`);
    for (const problem of problems) console.log(`     ${problem.replaceAll('\n', '\n     ')}`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.exitCode = failures > 0 ? 1 : 0;

async function publintProblems({ tarball }: Packed): Promise<string[]> {
  const file = readFileSync(tarball);
  const { messages, pkg } = await publint({ pack: { tarball: new Uint8Array(file).buffer } });
  return messages
    .filter(({ type }) => type !== 'suggestion')
    .map((message) => `publint: ${formatMessage(message, pkg, { color: false })}`);
}

async function typeProblems({ tarball }: Packed): Promise<string[]> {
  try {
    await command(attw, [tarball, '--profile', 'esm-only', '--no-color', '--no-emoji'], { cwd: folder });
    return [];
  } catch (error) {
    return [(error as Error).message];
  }
}
