import '@ashlar/backend-ort';
import '@tensorflow/tfjs-backend-wasm';
import { matMul, Rng, setBackend, type Tensor, tensor2d } from '@ashlar/tensor';
import { defaultDevice, init, numpy as np } from '@jax-js/jax';
import { encodeModel } from '../../../packages/backend-ort/src/onnx.ts';
import { loadSession } from '../../../packages/backend-ort/src/session.ts';
import { type BenchCase, type Contestant, defineBench } from '../src/define-bench.ts';

const SIZES: readonly [number, number, number][] = [
  [256, 256, 256],
  [512, 512, 512],
  [1024, 1024, 1024],
  [4096, 1024, 1024],
];

/** What a Llama of width 384 multiplies for 1024 tokens: projections, the gradients of their weights, its logits. */
const LLAMA: readonly [number, number, number][] = [
  [1024, 384, 384],
  [1024, 384, 1024],
  [384, 1024, 384],
  [384, 1024, 1024],
  [1024, 384, 4096],
];

/** Multiplications and additions beyond which the cpu backend takes longer than anyone waits. */
const CPU_LIMIT = 3e8;

/** `a b` of `[m, k]` and `[k, n]`, either of them stored transposed. */
function product(
  [m, k, n]: readonly [number, number, number],
  transposeA: boolean,
  transposeB: boolean,
  { peers = true } = {},
) {
  return async (): Promise<BenchCase> => {
    const rng = new Rng(1);
    const shapes = [transposeA ? [k, m] : [m, k], transposeB ? [n, k] : [k, n]] as [number, number][];
    const [a, b] = shapes.map(([rows, columns]) => rng.normalArray(rows * columns));
    const flops = 2 * m * k * n;
    const cleanUps: (() => void)[] = [];

    const tfjs = async (backend: string): Promise<Contestant> => {
      await setBackend(backend);
      const [x, y] = [a, b].map((values, i) => tensor2d(values, shapes[i]));
      cleanUps.push(() => {
        x.dispose();
        y.dispose();
      });
      return {
        prepare: () => setBackend(backend),
        run: () => (matMul(x, y, transposeA, transposeB) as Tensor).dispose(),
      };
    };
    await init('wasm');
    defaultDevice('wasm');
    const [x, y] = [a, b].map((values, i) => np.array(values).reshape(shapes[i]));
    const jaxJs: Contestant = {
      run() {
        const left = transposeA ? x.ref.transpose() : x.ref;
        const right = transposeB ? y.ref.transpose() : y.ref;
        const out = np.matmul(left, right);
        // Nothing is computed before someone asks for it.
        out.dataSync();
      },
    };
    const contestants = {
      'ONNX Runtime itself': onnxRuntime([m, k, n], [a, b], shapes, [transposeA, transposeB]),
      ort: await tfjs('ort'),
      ...(peers && { 'jax-js, wasm': jaxJs, 'tfjs, wasm': await tfjs('wasm') }),
      ...(peers && flops <= CPU_LIMIT && { 'tfjs, cpu': await tfjs('cpu') }),
    };
    const cleanUp = (): void => {
      for (const each of cleanUps) each();
    };
    const stored = `${transposeA ? 'transposed' : 'plain'} by ${transposeB ? 'transposed' : 'plain'}`;
    return { name: `[${m}, ${k}] by [${k}, ${n}], ${stored}`, flops, contestants, cleanUp };
  };
}

/** The product as one node, into memory that is there already: the most that a graph can reach. */
function onnxRuntime(
  [m, , n]: readonly [number, number, number],
  [a, b]: Float32Array[],
  [aShape, bShape]: [number, number][],
  [transA, transB]: [boolean, boolean],
): Contestant {
  const model = encodeModel({
    name: 'product',
    nodes: [
      {
        op: 'FusedMatMul',
        domain: 'com.microsoft',
        inputs: ['a', 'b'],
        outputs: ['y'],
        attributes: { transA: Number(transA), transB: Number(transB) },
      },
      { op: 'SequenceEmpty', inputs: [], outputs: ['done'] },
    ],
    inputs: ['a', 'b'].map((name) => ({ name, type: 'float32' })),
    outputs: [
      { name: 'done', type: 'float32', sequence: true },
      { name: 'y', type: 'float32' },
    ],
    initializers: [],
  });
  const session = loadSession(model, 'graph');
  const tensor = (data: Float32Array, dims: readonly number[]) =>
    ({ type: 'float32', data, dims, location: 'cpu' }) as const;
  const feeds = { a: tensor(a, aShape), b: tensor(b, bShape) };
  const fetches = { y: tensor(new Float32Array(m * n), [m, n]) };
  return { run: () => session.run(feeds, fetches) };
}

const BOTH = [false, true];
export default defineBench(
  ...SIZES.flatMap((size) => BOTH.flatMap((a) => BOTH.map((b) => product(size, a, b)))),
  ...LLAMA.map((size) => product(size, false, false, { peers: false })),
);
