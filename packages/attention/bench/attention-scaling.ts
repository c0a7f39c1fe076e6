import { attend } from '@ashlar/nn';
import { jit, Rng, setBackend, type Tensor, transpose } from '@ashlar/tensor';
import { type BenchCase, type Contestant, defineBench } from '../../../tooling/bench/src/define-bench.ts';
import { additiveRecurrence, linearAttention, oneScanAttention } from '../src/index.ts';

const [HEADS, HEAD_DIM] = [4, 64];
const GIGABYTES = 4;

const byToken = (x: Tensor): Tensor => transpose(x, [0, 2, 1, 3]);

const CORES: Record<string, (q: Tensor, k: Tensor, v: Tensor) => Tensor> = {
  'one scan (LightNet)': (q, k, v) => byToken(oneScanAttention(byToken(q), byToken(k), byToken(v))),
  'additive recurrence, causal (LightNet)': (q, k, v) => additiveRecurrence(q, k, v, k).output,
  'linear attention': (q, k, v) => linearAttention(q, k, v),
  'linear attention, causal': (q, k, v) => linearAttention(q, k, v, { causal: true }),
};

/** The logits, and as much again for their softmax. */
const softmaxGigabytes = (length: number): number => (2 * 4 * HEADS * length ** 2) / 1e9;

const scaling = (length: number) => async (): Promise<BenchCase> => {
  await setBackend('ort');
  const rng = new Rng(1);
  const inputs = ['q', 'k', 'v'].map((name) => rng.fork(name).normal([1, HEADS, length, HEAD_DIM]));
  const gigabytes = softmaxGigabytes(length);
  const fits = gigabytes <= GIGABYTES;
  const cores = fits ? { ...CORES, 'softmax (attend)': (q: Tensor, k: Tensor, v: Tensor) => attend(q, k, v) } : CORES;
  const passes = Object.entries(cores).map(([name, core]) => [name, jit(core)] as const);
  const contestants: Record<string, Contestant> = Object.fromEntries(
    passes.map(([name, pass]) => [name, { run: () => pass(inputs[0], inputs[1], inputs[2]).dispose() }]),
  );
  if (!fits) {
    contestants['softmax (attend)'] = {
      run() {
        throw new Error(
          `left out: its logits and weights alone take ${gigabytes.toFixed(1)} GB, more than ${GIGABYTES}`,
        );
      },
    };
  }
  return {
    name: `a pass of ${length.toLocaleString('en')} tokens, ${HEADS} heads x ${HEAD_DIM}, under jit`,
    contestants,
    cleanUp() {
      for (const [, pass] of passes) pass.dispose();
      for (const tensor of inputs) tensor.dispose();
    },
  };
};

export default defineBench(...[256, 1024, 4096, 16384].map(scaling));
