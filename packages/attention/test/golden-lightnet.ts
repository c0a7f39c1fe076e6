import { MdLrpe } from '@ashlar/encodings';
import { einsum, grads, loadStateDict, lossAndGrads, mul, Rng, reshape, sum, type Tensor, tidy } from '@ashlar/tensor';
import { defineGolden, type GoldenInputs } from '../../../tooling/golden/src/define-golden.ts';
import { additiveRecurrence, LightNetAttention, oneScanAttention } from '../src/index.ts';
import { tokenSoftmax } from '../src/one-scan-attention.ts';

interface CoreCase extends GoldenInputs {
  q: Tensor;
  k: Tensor;
  v: Tensor;
  w: Tensor;
}

interface LayerCase extends GoldenInputs {
  x: Tensor;
  options: { embed_dim: number; num_heads: number; use_lrpe?: boolean };
  params: Record<string, Tensor>;
  w: Tensor;
}

/** Gradients are those of `sum(w out)`. */
export const lightnetGolden = defineGolden({
  'lightnet/additive_recurrence': ({ q, k, v, g, w }: CoreCase & { g: Tensor }) =>
    tidy(() => {
      const loss = (...[q, k, v, g]: Tensor[]): Tensor => sum(mul(additiveRecurrence(q, k, v, g).output, w));
      const [dq, dk, dv, dg] = grads(loss)([q, k, v, g]);
      const { output, state } = additiveRecurrence(q, k, v, g);
      return { o: output, dq, dk, dv, dg, final_state: state.s };
    }),

  'lightnet/one_scan_noncausal': ({ q, k, v, w, mask }: CoreCase & { mask?: Tensor }) =>
    tidy(() => {
      const loss = (...[q, k, v]: Tensor[]): Tensor => sum(mul(oneScanAttention(q, k, v, { mask }), w));
      const [dq, dk, dv] = grads(loss)([q, k, v]);
      const state = einsum('bnhd,bnhe->bhde', tokenSoftmax(k, 1, mask && reshape(mask, [...mask.shape, 1, 1])), v);
      return { o: oneScanAttention(q, k, v, { mask }), state, dq, dk, dv };
    }),

  'lightnet/lightnet_attention_causal': ({ x, options, params, w }: LayerCase) => {
    const { embed_dim: dim, num_heads: heads, use_lrpe } = options;
    const encoding = use_lrpe ? new MdLrpe({ headDim: dim / heads }) : undefined;
    const gate = 'output_gate.0.weight' in params ? 'pre' : 'none';
    const layer = new LightNetAttention({ dim, heads, encoding, gate, rng: new Rng(0) });
    loadStateDict(layer, new Map(Object.entries(params)));
    const outputs = tidy(() => {
      const loss = (x: Tensor): Tensor => sum(mul(layer.apply(x), w));
      const [dx] = grads(loss)([x]);
      const { grads: dparams } = lossAndGrads(() => loss(x), layer.trainableParameters());
      return { o: layer.apply(x), dx, dparams: Object.fromEntries(dparams) };
    });
    encoding?.dispose();
    layer.dispose();
    return outputs;
  },
});
