import { MultiHeadAttention } from '@ashlar/nn';
import { jit, Module, moduleState, type PositionEncoding, Rng, setBackend, type Tensor } from '@ashlar/tensor';
import { defineBench } from '../../../tooling/bench/src/define-bench.ts';
import { Alibi, Dpe, Nope, ReRope, Rope, T5RelativeBias } from '../src/index.ts';

const [HEADS, HEAD_DIM, LENGTH] = [8, 64, 1024];

export default defineBench(async () => {
  await setBackend('ort');
  const rng = new Rng(1);
  const x = rng.fork('x').normal([1, LENGTH, HEADS * HEAD_DIM]);
  const encodings: Record<string, PositionEncoding> = {
    NoPE: new Nope(),
    RoPE: new Rope({ headDim: HEAD_DIM }),
    'RoPE, interleaved': new Rope({ headDim: HEAD_DIM, layout: 'interleaved' }),
    ALiBi: new Alibi({ heads: HEADS }),
    "T5's bias": new T5RelativeBias({ heads: HEADS, rng: rng.fork('t5') }),
    "T5's bias, table constant": new T5RelativeBias({ heads: HEADS, rng: rng.fork('t5') }),
    ReRoPE: new ReRope({ headDim: HEAD_DIM, window: 256 }),
    DPE: new Dpe({ headDim: HEAD_DIM, window: 256, scales: [8, 4, 2, 4] }),
  };
  const passes = Object.entries(encodings).map(([name, encoding]) => {
    const layer = new MultiHeadAttention(HEADS * HEAD_DIM, {
      heads: HEADS,
      causal: true,
      encoding,
      rng: rng.fork('layer'),
    }).eval();
    // A table that is no state is a constant of the graph, and so is its bias.
    const learned = encoding instanceof Module && !name.includes('constant') ? [moduleState(encoding)] : [];
    const pass = jit((x: Tensor): Tensor => layer.apply(x), { state: [moduleState(layer), ...learned] });
    return { name, layer, pass };
  });
  return {
    name: `causal attention, ${HEADS} heads x ${HEAD_DIM}, ${LENGTH} tokens, under jit`,
    contestants: Object.fromEntries(passes.map(({ name, pass }) => [name, { run: () => pass(x).dispose() }])),
    cleanUp() {
      for (const { layer, pass } of passes) {
        pass.dispose();
        layer.dispose();
      }
      x.dispose();
    },
  };
});
