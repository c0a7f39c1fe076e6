import { defineGolden } from '../../../tooling/golden/src/define-golden.ts';
import { lightnetGolden } from './golden-lightnet.ts';
import { posformerGolden } from './golden-posformer.ts';
import { positionalAttentionGolden } from './golden-positional-attention.ts';

export default defineGolden({
  ...lightnetGolden,
  ...positionalAttentionGolden,
  ...posformerGolden,
});
