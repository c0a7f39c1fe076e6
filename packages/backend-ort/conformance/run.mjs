/**
 * Runs TensorFlow.js's own tests on `cpu` and on `ort` and lists those that pass on the first and fail on the second:
 * `node conformance/run.mjs`. Exits with 1 if there are any. With `--always` every call that can runs natively, however
 * small; without, as users run it.
 */
import { createRequire } from 'node:module';
import { dirname, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'tsdown';

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

const results = { cpu: new Map(), ort: new Map() };
const [, backendOf] = [null, / (cpu|ort) \{/];
env.addReporter({
  specDone({ fullName, status, failedExpectations }) {
    const backend = backendOf.exec(fullName)?.[1];
    if (!backend) return;
    const name = fullName.replace(backendOf, ' {');
    results[backend].set(name, { status, message: failedExpectations[0]?.message.split('\n')[0] });
  },
});
const quiet = () => {};
Object.assign(console, { warn: quiet, debug: quiet });
await import(pathToFileURL(resolve(outDir, 'tests.mjs')).href);
await env.execute();

const count = (backend, status) => [...results[backend].values()].filter((r) => r.status === status).length;
for (const backend of ['cpu', 'ort']) {
  console.log(`${backend}: ${count(backend, 'passed')} passed, ${count(backend, 'failed')} failed`);
}
const worse = [...results.ort].filter(
  ([name, r]) => r.status === 'failed' && results.cpu.get(name)?.status === 'passed',
);
const missing = [...results.cpu.keys()].filter((name) => !results.ort.has(name));
for (const name of missing) console.log(`\n${name}\n    did not run on ort`);
for (const [name, { message }] of worse) console.log(`\n${name}\n    ${message}`);
console.log(`\n${worse.length} pass on cpu and fail on ort; ${missing.length} did not run on ort`);
process.exit(worse.length > 0 ? 1 : 0);
