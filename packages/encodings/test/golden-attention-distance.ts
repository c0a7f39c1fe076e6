import { expandDims, reshape, type Tensor, tidy } from '@ashlar/tensor';
import { defineGolden } from '../../../tooling/golden/src/define-golden.ts';
import { type AttentionDistanceKind, attentionDistance } from '../src/index.ts';

export const attentionDistanceGolden = defineGolden({
  'length-generalization/attention_distance': ({ p, q }: { p: Tensor; q: Tensor }) => {
    const distance = (kind: AttentionDistanceKind): number => {
      const scalar = tidy(() => reshape(attentionDistance(expandDims(p, 0), expandDims(q, 0), { kind }), []));
      const [value] = scalar.dataSync();
      scalar.dispose();
      return value;
    };
    return {
      symmetric_kl: distance('symmetric-kl'),
      js_as_coded: distance('reversed-jensen-shannon'),
      js_standard: distance('jensen-shannon'),
    };
  },
});
