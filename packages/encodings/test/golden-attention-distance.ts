import { expandDims, reshape, type Tensor, tidy } from '@ashlar/tensor';
import { defineGolden } from '../../../tooling/golden/src/define-golden.ts';
import { type AttentionDistanceKind, attentionDistance } from '../src/index.ts';

export const attentionDistanceGolden = defineGolden({
  'length-generalization/attention_distance': async ({ p, q }: { p: Tensor; q: Tensor }) => {
    const distance = async (kind: AttentionDistanceKind): Promise<number> => {
      const scalar = tidy(() => reshape(attentionDistance(expandDims(p, 0), expandDims(q, 0), { kind }), []));
      const [value] = await scalar.data<'float32'>();
      scalar.dispose();
      return value;
    };
    return {
      symmetric_kl: await distance('symmetric-kl'),
      js_as_coded: await distance('reversed-jensen-shannon'),
      js_standard: await distance('jensen-shannon'),
    };
  },
});
