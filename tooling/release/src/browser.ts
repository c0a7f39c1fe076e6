import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { build, preview } from 'vite';

/** Where Chromium is, or nothing if this machine has none. */
export function findChromium(): string | undefined {
  const path = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium';
  return existsSync(path) ? path : undefined;
}

const flags = [
  '--no-sandbox',
  // WebGPU without a GPU, by SwiftShader.
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** The page imports the example and says in its title how that went. */
const page = `<!doctype html>
<link rel="icon" href="data:,">
<script type="module">
  import('./example.js').then(
    () => { document.title = 'done'; },
    (error) => { console.error(error.stack ?? String(error)); document.title = 'failed'; },
  );
</script>
`;

/** Shared memory, and with it WebAssembly's threads, is for pages that let nothing else in. */
const isolation = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

/**
 * Bundles a project's `example.js` with Vite and runs it in headless Chromium; it must succeed and print something.
 * @returns what it printed.
 */
export async function runInBrowser(folder: string, executablePath: string): Promise<string[]> {
  writeFileSync(join(folder, 'index.html'), page);
  await build({ root: folder, configFile: false, logLevel: 'error', build: { target: 'es2022' } });
  const server = await preview({
    root: folder,
    configFile: false,
    preview: { host: '127.0.0.1', port: 0, headers: isolation },
  });
  const browser = await chromium.launch({ executablePath, args: flags });
  try {
    const tab = await browser.newPage();
    const printed: string[] = [];
    tab.on('console', (message) => printed.push(message.text()));
    await tab.goto(server.resolvedUrls?.local[0] as string);
    await tab.waitForFunction('document.title !== ""', undefined, { timeout: 150_000 }).catch(() => {});
    const outcome = (await tab.title()) || 'not done within 150 s';
    if (outcome !== 'done') throw new Error(`the example ${outcome} in the browser:\n${printed.join('\n')}`);
    if (printed.length === 0) throw new Error('the example prints nothing in the browser');
    return printed;
  } finally {
    await browser.close();
    await server.close();
  }
}
