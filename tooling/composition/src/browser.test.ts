import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { findChromium, runInBrowser } from '../../release/src/browser.ts';

const here = fileURLToPath(new URL('..', import.meta.url));
const chromium = findChromium();
/** Whether a machine without Chromium fails these tests instead of skipping them. */
const required = process.env.ASHLAR_REQUIRE_BROWSER === '1';

/** Bundles `browser/<name>` of this package and runs it in Chromium; what it printed. */
async function run(name: string): Promise<string[]> {
  if (chromium === undefined) throw new Error('There is no Chromium: install it or set CHROMIUM_PATH.');
  const folder = join(here, 'node_modules', '.browser', name);
  mkdirSync(folder, { recursive: true });
  try {
    const script = join(here, 'browser', `${name}.js`);
    writeFileSync(join(folder, 'example.js'), `import ${JSON.stringify(script)};\n`);
    return await runInBrowser(folder, chromium);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe.skipIf(chromium === undefined && !required)('in Chromium (skipped without one: set CHROMIUM_PATH)', () => {
  it('jitAsync trains as without, in WebAssembly with threads and on WebGPU', { timeout: 240_000 }, async () => {
    expect(await run('jit')).toEqual([
      'threads: true',
      expect.stringMatching(/^wasm: losses agree/),
      'wasm: right with what is kept',
      expect.stringMatching(/^train: losses agree/),
      expect.stringMatching(/^webgpu: losses agree/),
      'webgpu: right with what is kept',
    ]);
  });

  it('the webgpu backend gives the golden numbers and trains as cpu does', { timeout: 240_000 }, async () => {
    expect((await run('webgpu')).filter((line) => !line.startsWith('The performance of synchronously'))).toEqual([
      expect.stringMatching(/^golden: \d\d cases pass$/),
      'full: trains as cpu does',
      'LoRA: trains as cpu does',
    ]);
  });
});
