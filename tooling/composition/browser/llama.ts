// A small Llama and its training, in Node's tests and in the browser.
import { type CausalLM, createModel } from '@ashlar/models';
import { adamw, Optimizer } from '@ashlar/optim';
import { attach, lora } from '@ashlar/peft';
import { crossEntropy, disposeMap, lossAndGrads, Rng, type Tensor } from '@ashlar/tensor';

const CONFIG = {
  model_type: 'llama',
  vocab_size: 40,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  initializer_range: 0.1,
};

/** In training mode; with `LoRA` only its adapters train. */
export function llama(what: 'full' | 'LoRA', { dropout = 0 }: { dropout?: number } = {}): CausalLM {
  const rng = new Rng('llama');
  const model = createModel(CONFIG, { rng: rng.fork('model') }) as CausalLM;
  if (what === 'LoRA') {
    const config = { r: 4, loraDropout: dropout, targetModules: 'all-linear', initLoraWeights: false } as const;
    attach(model, lora(config), { rng: rng.fork('lora') });
  }
  return model.train();
}

export function batchOf(i: number): { x: Tensor; labels: Tensor } {
  const rng = new Rng(i);
  return { x: rng.integers([2, 8], 0, 40), labels: rng.integers([2, 8], 0, 40) };
}

/** The losses of `steps` steps, and the weights that trained; the model is disposed of unless it is to be kept. */
export async function trainingSteps(
  model: CausalLM,
  steps: number,
  disposes = true,
): Promise<{ losses: number[]; weights: Map<string, Float32Array> }> {
  const optimizer = new Optimizer(model.trainableParameters(), adamw({ learningRate: 1e-3, eps: 1e-3 }));
  const losses: number[] = [];
  for (let i = 0; i < steps; i++) {
    const { x, labels } = batchOf(i);
    const { loss, grads } = lossAndGrads(() => crossEntropy(model.apply(x), labels), optimizer.parameters);
    optimizer.step(grads);
    losses.push((await loss.data())[0]);
    disposeMap(grads);
    for (const tensor of [x, labels, loss]) tensor.dispose();
  }
  const weights = new Map<string, Float32Array>();
  for (const [name, parameter] of disposes ? optimizer.parameters : []) {
    weights.set(name, await parameter.stored.data<'float32'>());
  }
  optimizer.dispose();
  if (disposes) model.dispose();
  return { losses, weights };
}
