import { defineConfig } from 'tsdown';
import { library } from '../../tooling/build/tsdown.ts';

export default defineConfig([
  { ...library, external: [/^#/] },
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
