import { existsSync } from 'node:fs';
import { Command, Option } from 'commander';
import { backendNames } from '../../workspace/src/backend.ts';
import { committedFolders } from './committed.ts';
import { loadRegistry } from './registry.ts';
import { runGolden } from './run.ts';

const program = new Command('pnpm golden')
  .description(
    "Replays reference cases: each JSON file's inputs go to the function registered for its method, and what comes " +
      "back is compared with the file's outputs, on every backend. Exit code 1 if any case fails; a case whose function " +
      'nobody registered is counted as unknown and does not fail.',
  )
  .argument('[path...]', "folders (searched recursively) or files (default: every package's test/golden)")
  .addOption(new Option('--backend <name>', 'TensorFlow.js backend (default: cpu, then ort)').choices(backendNames))
  .option('--method <name>', 'only the cases of this method')
  .parse();

const { backend, method } = program.opts<{ backend?: string; method?: string }>();
const backends = backend ? [backend] : ['cpu', 'ort'];
const paths = program.args.length > 0 ? program.args : committedFolders();
const missing = paths.filter((path) => !existsSync(path));
if (missing.length > 0) program.error(`error: no such file or folder: ${missing.join(', ')}`);

const log = (line: string): void => console.log(line);
const { entries, errors } = await loadRegistry();
for (const error of errors) log(`FAIL ${error}`);
const { passed, failed, unknown } = await runGolden({ paths, backends, method, entries, log });
log(`${passed} passed, ${failed} failed, ${unknown} unknown`);
process.exitCode = failed > 0 || errors.length > 0 ? 1 : 0;
