import { defineBench } from '../src/define-bench.ts';
import { freshPeer } from '../src/peer.ts';

export default defineBench(() => ({
  name: 'From the start of the process to the end of the first training step (GPT of `train-step`)',
  contestants: {
    'ort, eager': freshPeer('gpt-tfjs.mjs', 'ort'),
    'ort, jit': freshPeer('gpt-tfjs.mjs', 'ort-jit'),
    PyTorch: freshPeer('pytorch.py', 'gpt'),
    'jax-js, wasm, jit': freshPeer('gpt-jax-js.mjs'),
  },
}));
