import { mkdirSync, writeFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Command } from 'commander';
import { type BuildOptions, build } from 'esbuild';
import { markdownTable } from 'markdown-table';
import { publishablePackages, root } from '../../workspace/src/packages.ts';

/** Resolved by the page or by Node, never part of a bundle. */
const never = [
  '@tensorflow/tfjs-core',
  '@tensorflow/tfjs-core/*',
  // What @ashlar/tensor maps to a file of tfjs-core.
  '#gradients',
  'onnxruntime-node',
  'onnxruntime-node/*',
  'node:*',
  ...builtinModules,
];

interface Size {
  minified: number;
  gzipped: number;
}

async function bundleSize(entry: string, options: BuildOptions): Promise<Size> {
  const bundle = await build({
    ...options,
    entryPoints: [entry],
    bundle: true,
    write: false,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    legalComments: 'none',
    logLevel: 'error',
    outdir: dirname(entry),
  });
  const code = bundle.outputFiles[0].contents;
  return { minified: code.length, gzipped: gzipSync(code, { level: 9 }).length };
}

const program = new Command('pnpm sizes')
  .description("Bundles each built package and writes the sizes of what reaches a user's page to docs/sizes.md.")
  .option('--check', 'print only, write nothing')
  .parse();

const kilobytes = ({ minified, gzipped }: Size): string[] =>
  [minified, gzipped].map((bytes) => (bytes / 1000).toFixed(1));
const rows: string[][] = [];
for (const { dir, manifest } of publishablePackages().filter(({ dir }) => dir.startsWith(join(root, 'packages')))) {
  const entry = join(dir, 'dist/index.js');
  const own = await bundleSize(entry, { packages: 'external' });
  const whole = await bundleSize(entry, { external: never });
  rows.push([`\`${manifest.name}\``, ...kilobytes(own), ...kilobytes(whole)]);
}
const header = ['package', 'own code', 'gzipped', 'with dependencies', 'gzipped'];
const table = markdownTable([header, ...rows], { align: ['l', 'r', 'r', 'r', 'r'] });
console.log(table);

if (!program.opts<{ check?: boolean }>().check) {
  const text = [
    '# Bundle sizes',
    '',
    'Kilobytes of minified ESM, everything that a package exports; a bundler that shakes the tree keeps less.',
    '`@tensorflow/tfjs-core` (a peer dependency) and native code are left out. Written by `pnpm sizes`.',
    '',
    table,
    '',
  ];
  mkdirSync(join(root, 'docs'), { recursive: true });
  writeFileSync(join(root, 'docs/sizes.md'), text.join('\n'));
}
