import { Llama } from '@ashlar/models';
import { jit, moduleState, Rng, setBackend, type Tensor } from '@ashlar/tensor';
// @ts-expect-error plain JavaScript, which the peers' processes run without a loader
import { llamaSetting } from '../../../tooling/bench/peers/llama.mjs';
import { type BenchCase, defineBench } from '../../../tooling/bench/src/define-bench.ts';
import { peer, peers } from '../../../tooling/bench/src/peer.ts';
import { attach, lora } from '../src/index.ts';

/** What `adapters.mjs` has, and how a table calls it. */
const METHODS = {
  full: 'all weights',
  head: 'the output head',
  lora: 'LoRA, r = 8, all layers',
  'lora-qv': 'LoRA, r = 8, q and v',
  dora: 'DoRA, r = 8',
  'lora-glad': 'LoRA with GLAD',
  sara: 'SaRA, 2.5% of the weights',
  ramt: 'R-AMT, attention',
  'low-rank': 'low-rank weights, r = 8',
  svfit: 'SVFit, r = 8',
  lofit: 'LoFiT, all heads',
};

const step = (layers: number, width: number, batch: number) => (): BenchCase => {
  const setting = llamaSetting({ layers, width, batch });
  const json = JSON.stringify(setting);
  return {
    name: `a training step under jit: Llama of ${layers} x ${width}, ${batch} x ${setting.length} tokens`,
    ...peers(
      Object.fromEntries(
        Object.entries(METHODS).map(([method, name]) => [
          name,
          peer('llama-ashlar.mjs', `llama-${method}`, json, 'jit'),
        ]),
      ),
    ),
  };
};

const inference = (targets: string | string[], what: string) => async (): Promise<BenchCase> => {
  await setBackend('ort');
  const rng = new Rng(1);
  const config = {
    model_type: 'llama',
    vocab_size: 4096,
    hidden_size: 768,
    intermediate_size: 2048,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    max_position_embeddings: 128,
  };
  const model = new Llama(config, { rng: rng.fork('model') });
  model.eval();
  const ids = rng.fork('ids').integers([1, 128], 0, config.vocab_size);
  const handle = attach(model, lora({ r: 8, targetModules: targets }), { rng: rng.fork('adapter') });
  const pass = jit((ids: Tensor) => model.apply(ids, { lastOnly: true }), { state: [moduleState(model)] });
  const run = (): void => pass(ids).dispose();
  return {
    name: `a pass of 128 tokens under jit: Llama of 12 x 768, LoRA of rank 8 on ${what}`,
    contestants: {
      'the base': { prepare: () => handle.disable(), run },
      unmerged: {
        prepare() {
          handle.unmerge();
          handle.enable();
        },
        run,
      },
      merged: {
        prepare() {
          handle.enable();
          handle.merge();
        },
        run,
      },
    },
    cleanUp() {
      pass.dispose();
      ids.dispose();
      model.dispose();
    },
  };
};

export default defineBench(
  inference(['q_proj', 'v_proj'], 'q and v'),
  inference('all-linear', 'all layers'),
  step(6, 384, 8),
  step(12, 768, 2),
);
