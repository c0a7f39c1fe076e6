import '@ashlar/backend-ort';
import { Dpe, keyDimensionScores, selectKeyDimensions } from '@ashlar/encodings';
import type { CausalLM } from '@ashlar/models';
import {
  crossEntropy,
  keep,
  mul,
  type PositionEncoding,
  reshape,
  setBackend,
  slice,
  type Tensor,
  tensor2d,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { expect, it } from 'vitest';
import { stateOfTheUnion } from './corpora.ts';
import { BUNDLED_MODEL, loadLanguageModel } from './language-model.ts';

/** The bundled model: 4 layers, 4 heads of queries and 2 of keys, 32 pairs of channels, trained on 256 tokens. */
const [LAYERS, HEADS, KV_HEADS, HEAD_DIM, TRAINED] = [4, 4, 2, 64, 256];

/** Scores of a layer's pairs, from what its projections make of `ids`. */
function scoresOf(model: CausalLM, layer: number, ids: Tensor): Tensor {
  const projected = ['q_proj', 'k_proj'].map((name) => {
    let output: Tensor | undefined;
    const hook = model.getSubmodule(`model.layers.${layer}.self_attn.${name}`).registerForwardHook((x: Tensor) => {
      output = keep(x.clone());
    });
    tidy(() => void model.apply(ids));
    hook.remove();
    return output as unknown as Tensor;
  });
  const split = (x: Tensor, heads: number): Tensor =>
    transpose(reshape(x, [x.shape[0], TRAINED, heads, HEAD_DIM]), [0, 2, 1, 3]);
  const scores = tidy(() => keyDimensionScores(split(projected[0], HEADS), split(projected[1], KV_HEADS)));
  for (const tensor of projected) tensor.dispose();
  return scores;
}

it('DPE: a quarter of the pairs of a real model, those of its queries and keys, carries its positions', async () => {
  await setBackend('ort');
  const { model, tokenizer } = await loadLanguageModel(BUNDLED_MODEL);
  model.eval();
  const texts = (await stateOfTheUnion()).slice(-2).map(({ text }) => tokenizer.encode(text).slice(0, 4 * TRAINED + 1));
  const ids = tensor2d(
    texts.map((text) => Array.from(text)),
    undefined,
    'int32',
  );
  const first = slice(ids, [0, 0], [-1, TRAINED]);
  const scores = Array.from({ length: LAYERS }, (_, layer) => scoresOf(model, layer, first));
  model.dispose();

  /** Nats per token for the last quarter of four times the trained length. */
  const lossWith = async (encoding?: PositionEncoding): Promise<number> => {
    const { model } = await loadLanguageModel(BUNDLED_MODEL, { encoding });
    const loss = tidy(() => {
      const logits = model.eval().apply(slice(ids, [0, 0], [-1, 4 * TRAINED]));
      const last = slice(logits, [0, 3 * TRAINED, 0], [-1, -1, -1]);
      return crossEntropy(last as Tensor, slice(ids, [0, 3 * TRAINED + 1], [-1, -1])).dataSync()[0];
    });
    model.dispose();
    return loss;
  };
  const quarter = async (sign: 1 | -1): Promise<number> => {
    const signed = scores.map((layer) => mul(layer, sign));
    const keyDimensions = await Promise.all(signed.map((layer) => selectKeyDimensions(layer, HEAD_DIM / 2 / 4)));
    for (const layer of signed) layer.dispose();
    return lossWith(new Dpe({ headDim: HEAD_DIM, window: 64, scales: [8], keyDimensions }));
  };
  const [plain, all] = [await lossWith(), await lossWith(new Dpe({ headDim: HEAD_DIM, window: 64, scales: [8] }))];
  const [key, least] = [await quarter(1), await quarter(-1)];
  expect(all).toBeLessThan(plain - 0.1);
  expect(plain - key).toBeGreaterThan(0.8 * (plain - all));
  expect(plain - least).toBeLessThan(0.5 * (plain - all));
  for (const layer of scores) layer.dispose();
  ids.dispose();
  first.dispose();
});
