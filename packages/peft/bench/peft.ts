import { Llama } from '@ashlar/models';
import { KeyValueCache } from '@ashlar/nn';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  crossEntropy,
  dispose,
  disposeMap,
  lossAndGrads,
  type Parameter,
  Rng,
  setBackend,
  type Tensor,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { defineBench } from '../../../tooling/bench/src/define-bench.ts';
import { attach, lora } from '../src/index.ts';

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
const [BATCH, LENGTH] = [8, 128];

const llama = (): Llama => new Llama(CONFIG, { rng: new Rng(1) });

/** Forward, backward and AdamW's update of `parameters`. */
function trainStep(model: Llama, ids: Tensor, labels: Tensor, parameters: ReadonlyMap<string, Parameter>): () => void {
  const optimizer = new Optimizer(parameters, adamw({ learningRate: 1e-4 }));
  return () => {
    const { loss, grads } = lossAndGrads(() => crossEntropy(model.apply(ids), labels), optimizer.parameters);
    optimizer.step(grads);
    loss.dispose();
    disposeMap(grads);
  };
}

export default defineBench(
  async () => {
    await setBackend('ort');
    const ids = new Rng(2).integers([BATCH, LENGTH], 0, CONFIG.vocab_size);
    const labels = new Rng(3).integers([BATCH, LENGTH], 0, CONFIG.vocab_size);
    const full = llama();
    const adapted = llama();
    const adapter = attach(adapted, lora({ r: 8, targetModules: ['q_proj', 'v_proj'] }), { rng: new Rng(4) });
    return {
      name: `a step over ${BATCH} x ${LENGTH} tokens (Llama, 4 layers of width 256)`,
      contestants: {
        'all parameters': { run: trainStep(full, ids, labels, full.trainableParameters()) },
        'LoRA, rank 8': { run: trainStep(adapted, ids, labels, adapter.parameters()) },
        'forward only': { run: () => full.apply(ids).dispose() },
      },
      cleanUp: () => dispose([ids, labels]),
    };
  },
  async () => {
    await setBackend('ort');
    const model = llama();
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
      cleanUp: () => {
        cache.dispose();
        prompt.dispose();
      },
    };
  },
);
