import { defineConfig } from 'vitest/config';

const conditions = ['@ashlar/source', 'module', 'node', 'import', 'default'];

export default defineConfig({
  // Packages resolve to each other's sources; only what `pnpm build` prebundles comes from `dist`.
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['{packages,apps,tooling}/*/{src,test}/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    // The file is where `.ci/run` finds the totals.
    reporters: process.env.CI
      ? ['default', ['json', { outputFile: 'node_modules/.vitest/results.json' }]]
      : ['default'],
  },
});
