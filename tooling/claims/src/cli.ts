import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Command, Option } from 'commander';
import { backendNames, useBackend } from '../../workspace/src/backend.ts';
import { packageScripts, root } from '../../workspace/src/packages.ts';
import type { Claim } from './define-claim.ts';
import { readRecord, readRecords, recordPath, writeWhole } from './record.ts';
import { renderClaims } from './render.ts';
import { runClaim } from './run.ts';

const program = new Command('pnpm claims')
  .description(
    'Reruns the experiments behind the claims and writes docs/claims/<slug>.json and docs/claims.md. Seeds measured ' +
      'before with the same code are kept, so an interrupted run goes on where it stopped.',
  )
  .argument('[slug...]', 'the claims to run (default: all)')
  .option('--list', 'list the claims and their verdicts, run nothing')
  .option('--fresh', 'measure all seeds again')
  .addOption(new Option('--backend <name>', 'TensorFlow.js backend').choices(backendNames).default('ort'))
  .parse();

const { list, fresh = false, backend } = program.opts<{ list?: boolean; fresh?: boolean; backend: string }>();
const folder = join(root, 'docs', 'claims');
const all = packageScripts('claims');
const unknown = program.args.filter((slug) => !all.some(({ name }) => name === slug));
if (unknown.length > 0) {
  program.error(
    `error: no claim ${unknown.join(', ')}; there are: ${all.map(({ name }) => name).join(', ') || 'none'}`,
  );
}
const wanted = program.args.length > 0 ? all.filter(({ name }) => program.args.includes(name)) : all;

if (list) {
  for (const { name } of wanted) {
    console.log(`${name}: ${readRecord(recordPath(folder, name))?.outcome?.verdict ?? 'not measured'}`);
  }
} else {
  await useBackend(backend);
  let failures = 0;
  for (const { name, path } of wanted) {
    try {
      const { default: claim } = (await import(pathToFileURL(path).href)) as { default: Claim };
      if (claim.slug !== name) throw new Error(`its slug is '${claim.slug}', but its file is ${name}.ts`);
      const { outcome } = await runClaim(claim, { path, folder, backend, fresh, log: console.log });
      console.log(`${name}: ${outcome?.verdict}: ${outcome?.reason}`);
    } catch (error) {
      failures++;
      console.error(`${name} failed: ${(error as Error).stack}`);
    }
    writeWhole(join(root, 'docs', 'claims.md'), renderClaims(readRecords(folder)));
  }
  process.exitCode = failures > 0 ? 1 : 0;
}
