import { defineConfig, type UserConfig } from 'tsdown';

/** How every published package is built: ESM and types from `src/index.ts`, dependencies left external. */
export const library: UserConfig = {
  entry: ['src/index.ts'],
  format: 'esm',
  platform: 'neutral',
  target: 'es2022',
  dts: { oxc: true },
  sourcemap: true,
  clean: true,
  fixedExtension: false,
  logLevel: 'warn',
};

export default defineConfig(library);
