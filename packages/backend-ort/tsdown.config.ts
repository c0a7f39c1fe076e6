import { defineConfig, type UserConfig } from 'tsdown';
import { library } from '../../tooling/build/tsdown.ts';

const node: UserConfig = { ...library, platform: 'node' };
const browser: UserConfig = { ...library, entry: ['src/web.ts'], platform: 'browser', clean: false };

export default defineConfig([node, browser]);
