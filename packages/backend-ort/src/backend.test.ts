import * as tf from '@tensorflow/tfjs-core';
import { beforeEach, describe, expect, it } from 'vitest';
import { OrtBackend } from './index.ts';
import './compare.testing.ts';
import { nativeRuntime } from './session.ts';

beforeEach(async () => {
  await tf.setBackend('ort');
});

const backend = (): OrtBackend => tf.backend() as OrtBackend;
const SIZE = 10_000;
const made = (value: number): tf.Tensor1D => tf.neg(tf.tensor1d(new Float32Array(SIZE).fill(-value)));

describe('the pool', () => {
  it('reuses the memory of a disposed result, and only then', () => {
    const first = made(1);
    const memory = backend().values(first).buffer;
    const second = made(2);
    expect(backend().values(second).buffer).not.toBe(memory);
    first.dispose();
    const third = made(3);
    expect(backend().values(third).buffer).toBe(memory);
    expect(second.dataSync()[0]).toBe(2);
    expect(third.dataSync()[0]).toBe(3);
  });

  it.each(['dataSync', 'data', 'bufferSync'] as const)('never reuses what %s handed out', async (method) => {
    const x = made(4);
    const held =
      method === 'dataSync'
        ? x.dataSync()
        : method === 'data'
          ? await x.data()
          : (x.bufferSync() as tf.TensorBuffer<tf.Rank>).values;
    x.dispose();
    for (let i = 0; i < 8; i++) made(5).dispose();
    expect(held.length).toBe(SIZE);
    expect(held.every((v) => v === 4)).toBe(true);
  });

  it('never reuses what the user uploaded', () => {
    const mine = new Float32Array(SIZE).fill(6);
    tf.tensor1d(mine).dispose();
    for (let i = 0; i < 4; i++) made(7).dispose();
    expect(mine.every((v) => v === 6)).toBe(true);
  });

  it('waits for clones, reshapes, slices and splits', () => {
    const x = made(8);
    const others: tf.Tensor[] = [
      x.clone(),
      tf.reshape(x, [100, 100]),
      tf.slice(x, [5], [SIZE - 6]),
      ...tf.split(x, 2),
      ...tf.unstack(tf.reshape(x, [2, SIZE / 2])),
    ];
    x.dispose();
    for (let i = 0; i < 8; i++) made(9);
    for (const other of others) {
      expect(other.dataSync().every((v: number) => v === 8)).toBe(true);
    }
  });

  it('waits for the real and imaginary parts of a complex tensor', () => {
    const x = made(1);
    const z = tf.complex(x, x);
    const real = tf.real(z);
    tf.dispose([x, z]);
    for (let i = 0; i < 8; i++) made(2);
    expect(real.dataSync().every((v) => v === 1)).toBe(true);
  });

  it('returns shared memory once its last slice is gone', () => {
    const x = made(1);
    const memory = backend().values(x).buffer;
    const half = tf.slice(x, [0], [SIZE / 2]);
    x.dispose();
    const during = made(2);
    expect(backend().values(during).buffer).not.toBe(memory);
    half.dispose();
    expect(backend().values(made(3)).buffer).toBe(memory);
  });

  it('is bounded and reported', () => {
    for (let i = 0; i < 4; i++) made(1).dispose();
    const { pool } = tf.memory() as unknown as ReturnType<OrtBackend['memory']>;
    expect(pool.freeBytes).toBeGreaterThan(0);
    expect(pool.freeBytes).toBeLessThanOrEqual(pool.limitBytes);
    expect(pool.reused).toBeGreaterThan(0);
  });
});

describe('tensors', () => {
  it('may be disposed twice, and not used afterwards', () => {
    const x = made(1);
    x.dispose();
    x.dispose();
    expect(() => tf.add(x, x)).toThrow(/disposed/);
    expect(() => x.dataSync()).toThrow(/disposed/);
  });

  it('may come from plain arrays and scalars', () => {
    expect(tf.mul(tf.scalar(2), made(3)).dataSync()[SIZE - 1]).toBe(6);
    expect(tf.mul(tf.fill([SIZE], 2), tf.tensor1d([3])).dataSync()[SIZE - 1]).toBe(6);
  });

  it('move from and to the cpu backend', async () => {
    await tf.setBackend('cpu');
    const x = tf.fill([SIZE], 3);
    await tf.setBackend('ort');
    const y = tf.square(x);
    await tf.setBackend('cpu');
    expect(tf.add(y, x).dataSync()[7]).toBe(12);
  });

  // TensorFlow.js's own tests of this run only on a backend called 'cpu'.
  it('move between two backends of this kind', async () => {
    const { kernelFunc } = tf.getKernel('Add', 'ort')!;
    for (const backendName of ['ort1', 'ort2']) {
      tf.registerBackend(backendName, () => new OrtBackend(nativeRuntime()));
      tf.registerKernel({ kernelName: 'Add', backendName, kernelFunc });
    }
    const { numTensors, numDataBuffers, numBytes } = tf.memory();
    await tf.setBackend('ort1');
    const a = tf.tensor1d(new Float32Array(SIZE).fill(5));
    await tf.setBackend('ort2');
    const b = tf.scalar(3);
    const sum = tf.add(a, b);
    await tf.setBackend('ort1');
    const double = tf.add(sum, sum);
    expect(Array.from(double.dataSync().slice(-2))).toEqual([16, 16]);
    expect([a, b, sum].map((tensor) => tensor.dataSync()[0])).toEqual([5, 3, 8]);
    expect(tf.memory().numTensors).toBe(numTensors + 4);
    tf.dispose([a, b, sum, double]);
    expect(tf.memory()).toMatchObject({ numTensors, numDataBuffers, numBytes });
    await tf.setBackend('ort');
    for (const backendName of ['ort1', 'ort2']) {
      tf.removeBackend(backendName);
      tf.unregisterKernel('Add', backendName);
    }
  });

  it('may be empty', () => {
    expect(tf.add(tf.zeros([0, 5]), tf.zeros([0, 5])).shape).toEqual([0, 5]);
    expect(tf.matMul(tf.zeros([0, 5]), tf.zeros([5, 3])).shape).toEqual([0, 3]);
    expect(tf.concat([tf.zeros([0, 500]), tf.ones([2, 500])]).shape).toEqual([2, 500]);
  });

  it('of complex numbers and strings run as on cpu', () => {
    const z = tf.complex(made(1), made(2));
    expect(Array.from(tf.mul(z, z).dataSync().slice(0, 2))).toEqual([-3, 4]);
    expect(tf.concat([tf.tensor1d(['a']), tf.tensor1d(['b'])]).dataSync()).toEqual(['a', 'b']);
  });
});

describe('errors', () => {
  it('name kernel, shapes and remedy for a kernel that is unknown', () => {
    const x = made(1);
    expect(() => tf.engine().runKernel('Frobnicate', { x })).toThrow(
      /'Frobnicate' not registered for backend 'ort'.*float32\[10000\].*registerKernel/,
    );
  });

  it('name kernel, shapes and remedy for a type that a kernel does not take', () => {
    const z = tf.complex(made(1), made(2));
    expect(() => tf.relu(z)).toThrow(/Relu is not computed on complex64\[10000\] .*Cast its inputs/);
    expect(() => tf.engine().runKernel('LogSoftmax', { logits: z })).toThrow(
      /LogSoftmax is not computed on complex64\[10000\] .*Cast its inputs/,
    );
  });

  it('name the kernel and the shapes when the runtime refuses a graph', () => {
    const x = made(1);
    const plan = {
      key: 'malformed',
      inputs: [{ tensor: x, shape: x.shape }],
      outputs: [{ shape: [1], dtype: 'float32' as const }],
      emit: () => 'no such value',
    };
    const before = backend().numDataIds();
    expect(() => backend().execute('Broken', plan)).toThrow(/Broken failed in ONNX Runtime on float32\[10000\]/);
    expect(backend().numDataIds()).toBe(before);
  });

  it('name the kernel and the shapes when the result has another shape than planned', () => {
    const x = made(1);
    const plan = {
      key: 'misshapen',
      inputs: [{ tensor: x, shape: x.shape }],
      outputs: [{ shape: [3], dtype: 'float32' as const }],
      emit: (g: { op(op: string, inputs: string[]): string }, [value]: readonly string[]) => g.op('Exp', [value!]),
    };
    expect(() => backend().execute('Misshapen', plan)).toThrow(/Misshapen failed .* float32\[10000\]/);
  });
});
