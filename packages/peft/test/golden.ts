import { defineGolden } from '../../../tooling/golden/src/define-golden.ts';
import { gladGolden } from './golden-glad.ts';
import { lofitGolden } from './golden-lofit.ts';
import { loraGolden } from './golden-lora.ts';
import { my3dgenGolden } from './golden-my3dgen.ts';
import { ramtGolden } from './golden-ramt.ts';
import { saraGolden } from './golden-sara.ts';
import { svfitGolden } from './golden-svfit.ts';

export default defineGolden({
  ...gladGolden,
  ...lofitGolden,
  ...loraGolden,
  ...my3dgenGolden,
  ...ramtGolden,
  ...saraGolden,
  ...svfitGolden,
});
