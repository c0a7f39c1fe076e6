// @ts-expect-error plain JavaScript, which the peers' processes run without a loader
import { FLOPS } from '../peers/gpt.mjs';
// @ts-expect-error as above
import { llamaFlops, llamaSetting } from '../peers/llama.mjs';
import { defineBench } from '../src/define-bench.ts';
import { peer, peers } from '../src/peer.ts';

const gpt = () => ({
  name: 'GPT: 4 layers of width 256, 8 x 128 tokens, 1000 words; gradients and gradient descent',
  flops: FLOPS,
  ...peers({
    'ort, jit': peer('gpt-tfjs.mjs', 'ort-jit'),
    'ort, eager': peer('gpt-tfjs.mjs', 'ort'),
    PyTorch: peer('pytorch.py', 'gpt'),
    'jax-js, wasm, jit': peer('gpt-jax-js.mjs'),
    'tfjs, wasm': peer('gpt-tfjs.mjs', 'wasm'),
    'tfjs, cpu': peer('gpt-tfjs.mjs', 'cpu'),
  }),
});

const llama = (task: 'llama-full' | 'llama-lora', what: string) => () => {
  const setting = llamaSetting();
  const json = JSON.stringify(setting);
  return {
    name: `Llama: 6 layers of width 384, 8 x 128 tokens, 4096 words; gradients and AdamW of ${what}`,
    flops: llamaFlops(setting, task === 'llama-lora'),
    ...peers({
      'ort, jit': peer('llama-ashlar.mjs', task, json, 'jit'),
      'ort, eager': peer('llama-ashlar.mjs', task, json, 'eager'),
      PyTorch: peer('pytorch.py', task, json),
      'jax-js, wasm, jit': peer('llama-jax-js.mjs', task, json),
      'Ashlar on tfjs, wasm': peer('llama-ashlar.mjs', task, json, 'wasm'),
      'Ashlar on tfjs, cpu': peer('llama-ashlar.mjs', task, json, 'cpu'),
    }),
  };
};

export default defineBench(gpt, llama('llama-full', 'all weights'), llama('llama-lora', 'LoRA adapters of rank 8'));
