/**
 * Runs all of TensorFlow.js's own tests on `cpu` and on `ort` and lists those that pass on the first and do not on the
 * second: `pnpm conformance`. Exits with 1 if there are any that EXCEPTIONS does not name. With `--always` every call
 * that can runs natively, however small; without, as users run it.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'tsdown';

/** Tests that pass on `cpu` and cannot on `ort`, each with the reason. README.md lists them too. */
const CPU_ONLY =
  "TensorFlow.js runs it only where the backend is called 'cpu'; backend.test.ts makes the same checks for 'ort'";
const EXCEPTIONS = {
  'Switching cpu backends {} Move data from cpu1 to cpu2 backend': CPU_ONLY,
  'Switching cpu backends {} can execute op with data from mixed backends': CPU_ONLY,
};

const require = createRequire(import.meta.url);
const here = dirname(fileURLToPath(import.meta.url));
const outDir = resolve(here, '../node_modules/.conformance');
const core = dirname(require.resolve('@tensorflow/tfjs-core/package.json'));
const cpu = dirname(require.resolve('@tensorflow/tfjs-backend-cpu/package.json'));

// The tests are modules that Node cannot resolve, and everything must share one copy of TensorFlow.js.
await build({
  config: false,
  entry: [resolve(here, 'tests.mjs')],
  outDir,
  format: 'esm',
  platform: 'node',
  dts: false,
  fixedExtension: true,
  logLevel: 'error',
  external: [/^onnxruntime-node/, /^jasmine-core/],
  noExternal: [/^(?!onnxruntime-node|jasmine-core)/],
  treeshake: false,
  inputOptions: {
    resolve: {
      alias: {
        '@tensorflow/tfjs-core/dist': resolve(core, 'dist'),
        '@tensorflow/tfjs-core': resolve(core, 'dist/index.js'),
        '@tensorflow/tfjs-backend-cpu': resolve(cpu, 'dist/index.js'),
        '@ashlar/backend-ort': resolve(here, '../src/index.ts'),
      },
    },
  },
});

const jasmineRequire = require('jasmine-core/lib/jasmine-core/jasmine.js');
const jasmine = jasmineRequire.core(jasmineRequire);
const env = jasmine.getEnv({ suppressLoadErrors: true });
Object.assign(globalThis, jasmineRequire.interface(jasmine, env), { require });
env.configure({ random: false, failFast: false });

const BACKEND = / (cpu|ort) \{/;
const results = { cpu: new Map(), ort: new Map() };
env.addReporter({
  specDone({ fullName, status, failedExpectations }) {
    const of = results[BACKEND.exec(fullName)?.[1]];
    if (!of) return;
    // Some tests share a name; they run in the same order on both.
    const title = fullName.replace(BACKEND, ' {');
    let name = title;
    for (let n = 2; of.has(name); n++) name = `${title} (${n})`;
    of.set(name, { status, message: failedExpectations[0]?.message.split('\n')[0] });
  },
});
const print = console.log;
const quiet = () => {};
Object.assign(console, { log: quiet, warn: quiet, debug: quiet });
await import(pathToFileURL(resolve(outDir, 'tests.mjs')).href);
await env.execute();

const files = readdirSync(resolve(core, 'dist'), { recursive: true }).filter((name) => name.endsWith('_test.js'));
const imported = readFileSync(resolve(core, 'dist/tests.js'), 'utf8').match(/_test'/g);
print(`${imported.length} of ${files.length} test files`);
const count = (backend, status) => [...results[backend].values()].filter((r) => r.status === status).length;
for (const backend of ['cpu', 'ort']) {
  print(`${backend}: ${count(backend, 'passed')} passed, ${count(backend, 'failed')} failed`);
}
const worse = [...results.cpu.keys()].filter(
  (name) => results.cpu.get(name).status === 'passed' && results.ort.get(name)?.status !== 'passed',
);
for (const name of worse) {
  print(`\n${name}\n    ${EXCEPTIONS[name] ?? results.ort.get(name)?.message ?? 'did not run on ort'}`);
}
const unexpected = worse.filter((name) => !(name in EXCEPTIONS));
const outdated = Object.keys(EXCEPTIONS).filter((name) => !worse.includes(name));
for (const name of outdated) print(`\n${name}\n    is no exception any more`);
print(`\n${worse.length} pass on cpu and not on ort, ${unexpected.length} of them unexpectedly`);
process.exit(unexpected.length + outdated.length > 0 || imported.length < files.length ? 1 : 0);
