import { KeyValueCache } from '@ashlar/nn';
import { Rng, setBackend, tensor2d, tidy } from '@ashlar/tensor';
import { defineBench } from '../../../tooling/bench/src/define-bench.ts';
import { Llama } from '../src/index.ts';

/** A Llama of 3.4 million parameters: 4 layers of width 256, grouped queries, tied embeddings. */
const CONFIG = {
  model_type: 'llama',
  vocab_size: 2048,
  hidden_size: 256,
  intermediate_size: 688,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 256,
  tie_word_embeddings: true,
};
const LENGTH = 128;

export default defineBench(async () => {
  await setBackend('ort');
  const model = new Llama(CONFIG, { rng: new Rng(1) });
  model.eval();
  const cache = new KeyValueCache();
  const prompt = new Rng(2).integers([1, LENGTH], 0, CONFIG.vocab_size);
  model.apply(prompt, { cache, lastOnly: true }).dispose();
  const decode = (): void => {
    if (cache.length === model.contextLength) cache.truncate(LENGTH);
    tidy(() => model.apply(tensor2d([[7]], [1, 1], 'int32'), { cache, lastOnly: true }).dataSync());
  };
  return {
    name: `a token after ${LENGTH} others`,
    contestants: {
      'with the cache': { run: decode },
      'without it': { run: () => tidy(() => model.apply(prompt, { lastOnly: true }).dataSync()) },
    },
    cleanUp() {
      cache.dispose();
      prompt.dispose();
      model.dispose();
    },
  };
});
