import { spawnSync } from 'node:child_process';
import { freemem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { attend } from '@ashlar/nn';
import { jit, Rng, setBackend, type Tensor, transpose } from '@ashlar/tensor';
import { type BenchCase, type Contestant, defineBench } from '../../../tooling/bench/src/define-bench.ts';
import { additiveRecurrence, linearAttention, oneScanAttention } from '../src/index.ts';

const [HEADS, HEAD_DIM] = [4, 64];

const byToken = (x: Tensor): Tensor => transpose(x, [0, 2, 1, 3]);

const CORES = {
  'one scan (LightNet)': (q, k, v) => byToken(oneScanAttention(byToken(q), byToken(k), byToken(v))),
  'additive recurrence, causal (LightNet)': (q, k, v) => additiveRecurrence(q, k, v, k).output,
  'linear attention': (q, k, v) => linearAttention(q, k, v),
  'linear attention, causal': (q, k, v) => linearAttention(q, k, v, { causal: true }),
  'softmax (attend)': (q, k, v) => attend(q, k, v),
} satisfies Record<string, (q: Tensor, k: Tensor, v: Tensor) => Tensor>;

export type Core = keyof typeof CORES;

/** One pass over `length` tokens, to be run as often as wanted. */
export function makePass(core: Core, length: number): { run(): void; dispose(): void } {
  const rng = new Rng(1);
  const [q, k, v] = ['q', 'k', 'v'].map((name) => rng.fork(name).normal([1, HEADS, length, HEAD_DIM]));
  const pass = jit(CORES[core]);
  return {
    run: () => pass(q, k, v).dispose(),
    dispose() {
      for (const each of [pass, q, k, v]) each.dispose();
    },
  };
}

/** What a first pass takes beyond its inputs, measured in a process of its own, on Linux. */
function passMiB(core: Core, length: number): number {
  const script = fileURLToPath(new URL('memory/pass.ts', import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [...process.execArgv, script, core, String(length)], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return Number(stdout);
}

const gigabytesOfLogits = (length: number): number => (4 * HEADS * length ** 2) / 1e9;

const scaling = (length: number) => async (): Promise<BenchCase> => {
  await setBackend('ort');
  const made: ReturnType<typeof makePass>[] = [];
  const contestant = (core: Core): Contestant => {
    const gigabytes = core === 'softmax (attend)' ? gigabytesOfLogits(length) : 0;
    if (2 * gigabytes > freemem() / 1e9) {
      return {
        run() {
          throw new Error(`left out: its logits alone take ${gigabytes.toFixed(1)} GB, over half of what is free`);
        },
      };
    }
    // Before this process fills its own memory.
    const notes: Record<string, number> =
      process.platform === 'linux' ? { 'MiB beside inputs': passMiB(core, length) } : {};
    const pass = makePass(core, length);
    made.push(pass);
    return { run: pass.run, notes: () => notes };
  };
  return {
    name: `a pass of ${length.toLocaleString('en')} tokens, ${HEADS} heads x ${HEAD_DIM}, under jit`,
    contestants: Object.fromEntries((Object.keys(CORES) as Core[]).map((core) => [core, contestant(core)])),
    cleanUp() {
      for (const pass of made) pass.dispose();
    },
  };
};

export default defineBench(...[256, 1024, 4096, 16384].map(scaling));
