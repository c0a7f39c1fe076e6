import { defineConfig, type UserConfig } from 'tsdown';
import { library } from '../../tooling/build/tsdown.ts';

const config: UserConfig = { ...library, platform: 'node' };

export default defineConfig(config);
