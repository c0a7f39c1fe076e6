import { defineConfig } from 'tsdown';
import { library } from '../../tooling/build/tsdown.ts';

export default defineConfig({ ...library, entry: ['src/index.ts', 'src/cli.ts'], platform: 'node' });
