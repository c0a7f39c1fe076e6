// @ts-expect-error plain JavaScript, which the peers' processes run without a loader
import { llamaFlops, llamaSetting } from '../peers/llama.mjs';
import { defineBench } from '../src/define-bench.ts';
import { peer, peers } from '../src/peer.ts';

/** A full training step of a Llama of 4 layers, of width 256 over 8 x 128 tokens but for one of these. */
function step(what: string, size: { length?: number; width?: number; batch?: number }) {
  return () => {
    const setting = llamaSetting({ layers: 4, width: 256, words: 1024, ...size });
    const json = JSON.stringify(setting);
    return {
      name: what,
      flops: llamaFlops(setting, false),
      ...peers({
        'ort, jit': peer('llama-ashlar.mjs', 'llama-full', json, 'jit'),
        'ort, eager': peer('llama-ashlar.mjs', 'llama-full', json, 'eager'),
        PyTorch: peer('pytorch.py', 'llama-full', json),
      }),
    };
  };
}

export default defineBench(
  ...[64, 128, 256, 512].map((length) => step(`sequence length ${length}`, { length })),
  ...[128, 256, 512].map((width) => step(`width ${width}`, { width })),
  ...[2, 8, 32].map((batch) => step(`batch ${batch}`, { batch })),
);
