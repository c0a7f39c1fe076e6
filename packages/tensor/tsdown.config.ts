import { defineConfig } from 'tsdown';
import { library } from '../../tooling/build/tsdown.ts';

export default defineConfig([
  { ...library, entry: { index: 'src/index.ts', testing: 'src/testing/index.ts' }, external: [/^#/] },
  {
    ...library,
    entry: { gradients: 'src/gradients.bundle.ts' },
    noExternal: [/.*/],
    inlineOnly: false,
    inputOptions: { resolve: { mainFields: ['module', 'main'] } },
    minify: true,
    dts: false,
    sourcemap: false,
    clean: false,
  },
]);
